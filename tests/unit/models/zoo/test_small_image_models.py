"""The models for small images have the parameters that their papers state, and options change what they name."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cnnlib.errors import ModelError
from cnnlib.model_options import ModelOptions
from cnnlib.models.cnn import build_seed_cnn
from cnnlib.models.cost import model_cost
from cnnlib.models.registry import build_model, gives_probabilities
from cnnlib.models.round_trip import RoundTrip, check_round_trip
from cnnlib.models.source import ModelSource
from cnnlib.models.zoo.entries import LISTED_CLASSES, SMALL_IMAGE, ZOO
from cnnlib.models.zoo.options import SeedCnnOptions
from cnnlib.training.state.moving_statistics import synchronize

pytestmark = pytest.mark.usefixtures("strategy")

CIFAR = (32, 32, 3)
SMALL: list[tuple[str, dict[str, Any]]] = [
    (
        "seed-cnn",
        {"filters": (8, 4), "batch_norm": True, "pooling": "average", "dropout": 0.1, "activation": "gelu"},
    ),
    ("small-cnn", {"width": 3, "dropout": 0.1}),
    ("dnn", {"units": (8,), "batch_norm": True, "dropout": 0.1}),
    ("resnet", {"depth": 8, "width": 4}),
    ("wide-resnet", {"depth": 10, "widen_factor": 1, "dropout": 0.1}),
    ("densenet-bc", {"depth": 10, "growth": 4, "dropout": 0.1}),
]


def trained_parameters(name: str, shape: tuple[int, int, int], **options: Any) -> int:
    """Counts the trained parameters of a model that is built without its weights."""
    with tf.Graph().as_default():
        model = build_model(name, shape, 10, ModelOptions(**options))
        return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def count(model: keras.Model, kind: type[keras.layers.Layer]) -> int:
    return sum(isinstance(layer, kind) for layer in model.layers)


@pytest.mark.parametrize(
    ("name", "options", "expected", "paper_millions"),
    [
        ("resnet", {"depth": 20}, 272_474, "0.27"),  # He et al. 2016, table 6
        ("resnet", {"depth": 32}, 466_906, "0.47"),  # 0.46 with shortcuts without parameters
        ("wide-resnet", {"depth": 28, "widen_factor": 10}, 36_479_194, "36.48"),  # table 1: 36.5
        ("wide-resnet", {"depth": 40, "widen_factor": 4}, 8_949_210, "8.95"),  # table 4: 8.9
    ],
)
def test_models_have_the_parameters_of_their_papers(
    name: str, options: dict[str, Any], expected: int, paper_millions: str
) -> None:
    parameters = trained_parameters(name, CIFAR, **options)
    assert parameters == expected
    assert f"{parameters / 1e6:.2f}" == paper_millions


def test_shortcuts_with_parameters_add_2752_to_resnet_20() -> None:
    # Option A of the paper has 269,722: two 1x1 convolutions fewer, and their normalisations.
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert trained_parameters("resnet", CIFAR) - shortcuts == 269_722


@pytest.mark.parametrize("name", [name for name, model in ZOO.items() if model.image_shape == SMALL_IMAGE])
def test_costs_in_the_list_are_those_of_the_traced_model(name: str) -> None:
    entry = ZOO[name]
    with tf.Graph().as_default():
        model = build_model(name, entry.image_shape, LISTED_CLASSES)
        cost = model_cost(model, entry.image_shape)
        trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert (cost.parameters, cost.flops_per_image) == (entry.parameters, entry.flops_per_image)
    if name == "densenet-bc":
        # On CIFAR, the first convolution reads two more channels: 0.8 million, Huang et al. 2017, table 2.
        assert trained + 2 * 9 * 24 == 769_162


@pytest.mark.parametrize(("name", "options"), SMALL, ids=[name for name, _ in SMALL])
def test_small_model_opens_again_in_plain_keras_and_begins_as_its_seed_says(
    name: str, options: dict[str, Any]
) -> None:
    given = ModelOptions(**options)

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return build_model(name, (8, 11, 3), 4, given)

    first, again, other = build(1), build(1), build(2)
    same = [np.array_equal(*pair) for pair in zip(first.get_weights(), again.get_weights(), strict=True)]
    assert all(same)
    different = [
        not np.array_equal(*pair) for pair in zip(first.get_weights(), other.get_weights(), strict=True)
    ]
    assert any(different)
    assert gives_probabilities(first)
    source = ModelSource(function=name, image_shape=(8, 11, 3), num_classes=4, options=given)
    assert check_round_trip(first, source) == RoundTrip(opens_in_keras=True)


@pytest.mark.parametrize(("name", "options"), SMALL, ids=[name for name, _ in SMALL])
def test_batch_normalisation_of_every_model_can_be_synchronized(name: str, options: dict[str, Any]) -> None:
    model = build_model(name, (8, 8, 1), 3, ModelOptions(**options))
    normalizations = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    synchronize(model)
    assert normalizations
    assert all(layer.synchronized for layer in normalizations)


def test_probabilities_of_every_model_are_float32_in_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        models = [build_model(name, (8, 8, 1), 3, ModelOptions(**options)) for name, options in SMALL]
    finally:
        keras.config.set_dtype_policy("float32")
    assert {model.layers[-1].compute_dtype for model in models} == {"float32"}
    convolutions = [layer for model in models for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}


def test_seed_cnn_turns_the_knobs_of_the_tutorial() -> None:
    options = ModelOptions(
        filters=(6, 5, 4), kernel=5, stride=2, padding="valid", pooling="average", activation="tanh",
        batch_norm=True, units=(7, 9), dropout=0.25,
    )  # fmt: skip
    model = build_model("seed-cnn", (40, 40, 1), 3, options)
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization", "Activation"]
    assert kinds == [
        *("Rescaling", *block, *block, "AveragePooling2D", *block),
        *("Flatten", "Dense", "Dense", "Dropout", "Dense"),
    ]
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert [(each.filters, each.kernel_size, each.strides, each.padding) for each in convolutions] == [
        (6, (5, 5), (2, 2), "valid"),
        (5, (5, 5), (1, 1), "valid"),
        (4, (5, 5), (1, 1), "valid"),
    ]
    activations = [
        layer.activation.__name__ for layer in model.layers if isinstance(layer, layers.Activation)
    ]
    assert activations == ["tanh", "tanh", "linear"]
    assert [layer.units for layer in model.layers if isinstance(layer, layers.Dense)] == [7, 9, 3]
    assert next(layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)) == 0.25


def test_seed_cnn_without_pooling_keeps_the_size_of_the_image() -> None:
    model = build_model("seed-cnn", (5, 6, 1), 3, ModelOptions(filters=(4, 2), pooling="none"))
    flat = next(layer for layer in model.layers if isinstance(layer, layers.Flatten))
    assert flat.output.shape == (None, 5 * 6 * 2)


@pytest.mark.parametrize(
    "options", [SeedCnnOptions(padding="valid"), SeedCnnOptions(stride=3), SeedCnnOptions()], ids=str
)
def test_smallest_image_that_the_check_lets_pass_can_be_built_and_no_smaller_one(
    options: SeedCnnOptions,
) -> None:
    smallest = next(side for side in range(1, 80) if _passes(options, side))
    assert build_seed_cnn((smallest, smallest, 1), 2, options).output_shape == (None, 2)
    with pytest.raises(ValueError, match="Computed output size would be"):
        build_seed_cnn((smallest - 1, smallest - 1, 1), 2, options)


def _passes(options: SeedCnnOptions, side: int) -> bool:
    try:
        options.check_images("seed-cnn", (side, side, 1))
    except ModelError:
        return False
    return True


def test_width_of_small_cnn_scales_all_of_its_convolutions() -> None:
    model = build_model("small-cnn", (8, 8, 1), 3, ModelOptions(width=6))
    assert [layer.filters for layer in model.layers if isinstance(layer, layers.Conv2D)] == [
        6,
        12,
        16,
        24,
        24,
    ]


def test_depth_counts_the_layers_with_weights_but_not_those_of_the_shortcuts() -> None:
    resnet = build_model("resnet", (8, 8, 1), 3, ModelOptions(depth=14, width=4))
    assert count(resnet, layers.Conv2D) + count(resnet, layers.Dense) - 2 == 14
    assert count(resnet, layers.Add) == 6
    wide = build_model("wide-resnet", (8, 8, 1), 3, ModelOptions(depth=10, widen_factor=2))
    # The paper counts the three convolutions of the shortcuts instead of the dense layer.
    assert count(wide, layers.Conv2D) == 10
    assert max(layer.filters for layer in wide.layers if isinstance(layer, layers.Conv2D)) == 128
    dense = build_model("densenet-bc", (8, 8, 1), 3, ModelOptions(depth=16, growth=4))
    assert count(dense, layers.Conv2D) + count(dense, layers.Dense) == 16


def test_every_layer_of_a_dense_block_adds_its_growth_and_a_transition_keeps_the_compression() -> None:
    model = build_model("densenet-bc", (8, 8, 1), 3, ModelOptions(depth=16, growth=4, compression=0.25))
    channels = [layer.output.shape[-1] for layer in model.layers if isinstance(layer, layers.Concatenate)]
    # 8 channels and two bottlenecks make 16; a quarter of them is 4, and so on.
    assert channels == [12, 16, 8, 12, 7, 11]


def test_convolutions_of_residual_networks_begin_with_the_variance_of_he() -> None:
    model = build_model("resnet", (8, 8, 3), 3, ModelOptions(depth=8, width=64))
    kernel = max(
        (layer.kernel for layer in model.layers if isinstance(layer, layers.Conv2D)), key=lambda k: k.shape[3]
    )
    fan_in = math.prod(kernel.shape[:3])
    assert float(np.std(keras.ops.convert_to_numpy(kernel))) == pytest.approx(
        math.sqrt(2 / fan_in), rel=0.02
    )  # of 147,456 or more values
