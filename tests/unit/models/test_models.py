"""The models have the layers of their descriptions, and a model that does not fit the data is refused."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from cnnlib.errors import DatasetError, ModelError
from cnnlib.model_options import ModelOptions
from cnnlib.models.registry import (
    build_model,
    check_fits,
    check_model_name,
    gives_probabilities,
    is_registered,
    is_row_by_row,
    model_names,
)
from tests.models import build_linear, build_two_inputs, build_two_outputs

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE, CLASSES = (28, 28, 1), 10
TUTORIAL = ["dnn", "seed-cnn", "small-cnn"]
KNOWN = (
    "convnext-tiny, densenet-bc, dnn, efficientnet-v2-s, resnet, resnet-50, seed-cnn, small-cnn, wide-resnet"
)


def multiply_adds(model: keras.Model) -> int:
    """Counts the multiplications of convolutions and dense layers for one image."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.Dense):
            positions = math.prod(layer.output.shape[1:-1])
            total += positions * math.prod(layer.kernel.shape)
    return total


def describe(layer: keras.Layer) -> tuple[Any, ...]:
    """Returns what the tutorial states about a layer."""
    kind = type(layer).__name__
    if isinstance(layer, layers.Conv2D):
        return kind, layer.filters, layer.kernel_size, layer.padding, layer.strides, layer.activation.__name__
    if isinstance(layer, layers.MaxPooling2D):
        return kind, layer.pool_size
    if isinstance(layer, layers.Dense):
        return kind, layer.units, layer.activation.__name__
    return (kind,)


def test_seed_cnn_has_the_tutorials_layers_in_order() -> None:
    model = build_model("seed-cnn", SHAPE, CLASSES)

    def conv(filters: int, activation: str) -> tuple[Any, ...]:
        return "Conv2D", filters, (3, 3), "same", (1, 1), activation

    assert [describe(layer) for layer in model.layers] == [
        ("Rescaling",),
        conv(64, "relu"),
        conv(32, "relu"),
        ("MaxPooling2D", (2, 2)),
        conv(32, "relu"),
        conv(16, "linear"),
        ("MaxPooling2D", (2, 2)),
        conv(16, "linear"),
        conv(8, "linear"),
        ("MaxPooling2D", (2, 2)),
        ("Flatten",),
        ("Dense", 128, "relu"),
        ("Dense", 10, "softmax"),
    ]
    assert all(layer.use_bias for layer in model.layers if isinstance(layer, layers.Conv2D | layers.Dense))


def test_seed_cnn_has_47090_parameters_all_of_them_trained() -> None:
    model = build_model("seed-cnn", SHAPE, CLASSES)
    assert model.count_params() == 47_090
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == 47_090


def test_dnn_is_two_hidden_layers_over_every_pixel() -> None:
    model = build_model("dnn", SHAPE, CLASSES)
    assert [describe(layer) for layer in model.layers] == [
        ("Rescaling",),
        ("Flatten",),
        ("Dense", 256, "relu"),
        ("Dense", 128, "relu"),
        ("Dense", 10, "softmax"),
    ]
    assert model.count_params() == 235_146


def test_small_cnn_costs_no_more_than_the_seed() -> None:
    seed, small = (build_model(name, SHAPE, CLASSES) for name in ("seed-cnn", "small-cnn"))
    assert multiply_adds(seed) == 17_791_616
    assert multiply_adds(small) == 14_395_200
    assert any(isinstance(layer, layers.BatchNormalization) for layer in small.layers)


@pytest.mark.parametrize("name", TUTORIAL)
def test_rows_of_a_batch_influence_one_another_unless_the_registry_says_that_they_do_not(name: str) -> None:
    model = build_model(name, SHAPE, CLASSES)
    images = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.float32)
    before = [np.array(weight) for weight in model.non_trainable_variables]
    whole = np.asarray(model(images, training=True))
    alone = np.concatenate([np.asarray(model(images[row : row + 1], training=True)) for row in range(6)])
    same = np.allclose(whole, alone, rtol=1e-4, atol=1e-5)
    unmoved = all(
        np.array_equal(a, b)
        for a, b in zip(before, map(np.array, model.non_trainable_variables), strict=True)
    )
    assert is_row_by_row(name) == (same and unmoved)


@pytest.mark.parametrize("name", TUTORIAL)
@pytest.mark.parametrize(("shape", "classes"), [((28, 28, 1), 10), ((32, 40, 3), 100), ((8, 8, 1), 2)])
def test_registered_model_fits_the_data_and_scales_raw_pixels_itself(
    name: str, shape: tuple[int, int, int], classes: int
) -> None:
    model = build_model(name, shape, classes)
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, classes)
    assert gives_probabilities(model)
    (rescaling,) = (layer for layer in model.layers if isinstance(layer, layers.Rescaling))
    assert rescaling.scale == 1 / 255
    images = keras.ops.full((2, *shape), 255.0)
    probabilities = keras.ops.convert_to_numpy(model(images))
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_probabilities_are_float32_whatever_the_precision() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        built = [build_model(name, SHAPE, CLASSES) for name in TUTORIAL]
    finally:
        keras.config.set_dtype_policy("float32")
    assert [model.layers[-1].compute_dtype for model in built] == ["float32"] * 3
    assert {model.layers[-2].compute_dtype for model in built} == {"bfloat16"}


def test_registry_knows_its_names() -> None:
    assert ", ".join(model_names()) == KNOWN
    assert is_registered("dnn")
    assert not is_registered("tests.models:build_linear")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seed_cnn", f"Unknown model 'seed_cnn'. Did you mean 'seed-cnn'? Known: {KNOWN}."),
        ("smal-cnn", "Did you mean 'small-cnn'?"),
        ("xyzzy", f"Unknown model 'xyzzy'. Known: {KNOWN}."),
        ("tests.models:", "Or name a function of your own: package.module:function."),
        (":build", "Or name a function of your own"),
        ("./pkg/mod.py:build", "and no path. Received './pkg/mod.py:build'. Try pkg.mod:build."),
        ("mod.py:build", "Try mod:build."),
        ("tests.models:two words", "Or name a function of your own"),
    ],
)
def test_unknown_model_names_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ModelError) as raised:
        check_model_name(name)
    assert message in str(raised.value)


def test_model_of_the_users_own_is_named_by_its_function() -> None:
    check_model_name("tests.models:build_linear")
    model = build_model("tests.models:build_linear", (4, 5, 3), 7)
    assert model.output_shape == (None, 7)
    assert not gives_probabilities(model)


def user_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> str:
    """Makes a module of the user's own importable, and returns its name."""
    name = "model_of_a_user"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        (
            "def build_net(shape, classes): ...",
            "build_nit",
            "no function 'build_nit'. Did you mean 'build_net'?",
        ),
        ("build = 3", "build", "has no function 'build'."),
        (
            "def build(shape, classes): raise ValueError('too small')",
            "build",
            "failed for image_shape=(28, 28, 1), num_classes=10: ValueError: too small",
        ),
        ("def build(shape): ...", "build", "TypeError: build() takes 1 positional argument but 2 were given"),
        (
            "def build(shape, classes): return None",
            "build",
            "must return a keras.Model (Keras 3, `import keras`)",
        ),
        ("def build(shape, classes): return None", "build", "Received builtins.NoneType."),
        ("import no_such_package_anywhere", "build", "No module named 'no_such_package_anywhere'"),
        ("def build(:", "build", "Cannot import 'model_of_a_user'"),
        ("raise RuntimeError('no licence')", "build", "RuntimeError: no licence"),
    ],
)
def test_function_of_the_users_own_that_fails_is_reported_in_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, function: str, message: str
) -> None:
    name = user_module(monkeypatch, tmp_path, text)
    with pytest.raises(ModelError) as raised:
        build_model(f"{name}:{function}", SHAPE, CLASSES)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [
        "shape, classes, depth=1",
        "shape, classes, *, depth",
        "shape, classes, **options",
        "shape, classes, width=2, depth=1",
    ],
)
def test_function_of_the_users_own_gets_the_options_that_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str
) -> None:
    text = (
        "import keras\n"
        f"def build({arguments}):\n"
        "    given = locals().get('options', locals())\n"
        "    layers = [keras.layers.Dense(3) for _ in range(given['depth'])]\n"
        "    last = keras.layers.Dense(classes)\n"
        "    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), *layers, last])"
    )
    name = f"{user_module(monkeypatch, tmp_path, text)}:build"
    assert len(build_model(name, SHAPE, CLASSES, ModelOptions(depth=4)).layers) == 1 + 4 + 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("shape, classes", "none"), ("shape, classes, *, depth=3, units=2", "--model.depth, --model.units")],
)
def test_option_that_a_users_function_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, expected: str
) -> None:
    name = f"{user_module(monkeypatch, tmp_path, f'def build({arguments}): ...')}:build"
    with pytest.raises(ModelError) as raised:
        build_model(name, SHAPE, CLASSES, ModelOptions(depth=4, width=2))
    assert str(raised.value).startswith(f"{name} has no such option. Received --model.width 2")
    assert str(raised.value).endswith(f", expected one of: {expected}.")


def test_error_of_ours_in_a_users_function_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (
        "from cnnlib.errors import DatasetError\ndef build(shape, classes): raise DatasetError('not for me')"
    )
    with pytest.raises(DatasetError, match=r"^not for me$"):
        build_model(f"{user_module(monkeypatch, tmp_path, text)}:build", SHAPE, CLASSES)


def test_module_that_is_nowhere_says_where_it_must_be() -> None:
    with pytest.raises(ModelError, match=r"Cannot import 'no_such.module'") as raised:
        build_model("no_such.module:build", SHAPE, CLASSES)
    assert "importable where the job starts and on every worker" in str(raised.value)


def _flat() -> keras.Model:
    return keras.Sequential([keras.Input((784,)), layers.Dense(CLASSES)])


def _unbuilt() -> keras.Model:
    return keras.Sequential([layers.Flatten(), layers.Dense(CLASSES)])


def _per_pixel() -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE), layers.Dense(CLASSES)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: build_linear(SHAPE, 11),
            "Received an output of shape (None, 11), expected (None, 10): one value",
        ),
        (
            lambda: build_linear((32, 32, 3), 10),
            "an input of shape (None, 32, 32, 3), expected (None, 28, 28, 1)",
        ),
        (_flat, "an input of shape (None, 784), expected (None, 28, 28, 1)"),
        (lambda: build_two_inputs(SHAPE, CLASSES), "mine must have exactly one input tensor of known rank"),
        (lambda: build_two_outputs(SHAPE, CLASSES), "mine must have exactly one output tensor of known rank"),
        (_unbuilt, "mine must have exactly one input tensor of known rank. Received None."),
        (_per_pixel, "an output of shape (None, 28, 28, 10), expected (None, 10)"),
    ],
)
def test_model_that_does_not_fit_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ModelError) as raised:
        check_fits(build(), "mine", SHAPE, CLASSES)
    assert str(raised.value).startswith("mine ")
    assert message in str(raised.value)


def test_model_for_images_of_any_size_fits() -> None:
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(4, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES),
        ]
    )
    check_fits(model, "mine", SHAPE, CLASSES)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ([layers.Dense, {"units": 10, "activation": "softmax"}], True),
        ([layers.Dense, {"units": 10}], False),
        ([layers.Dense, {"units": 10, "activation": "sigmoid"}], False),
        ([layers.Softmax, {}], True),
        ([layers.Activation, {"activation": "softmax"}], True),
        ([layers.ReLU, {}], False),
    ],
)
def test_only_a_softmax_at_the_end_gives_probabilities(last: list[Any], expected: bool) -> None:
    kind, options = last
    model = keras.Sequential([keras.Input((10,)), kind(**options)])
    assert gives_probabilities(model) is expected
    nested = keras.Sequential([keras.Input((10,)), layers.Dense(10, activation="softmax"), model])
    assert gives_probabilities(nested) is expected
