"""A model that is trained can be saved, opened as the evaluation opens it, and is the same model then."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from cnnlib.errors import ModelCodeError, ModelError
from cnnlib.models.model_file import open_model_file
from cnnlib.models.probe import SAME_MACHINE, find_difference, predict, probe_images, probe_outputs
from cnnlib.models.registry import build_model
from cnnlib.models.round_trip import check_round_trip
from cnnlib.models.source import ModelSource

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE, CLASSES = (8, 8, 1), 3


def source_of(function: str, **options: object) -> ModelSource:
    name = f"tests.own_models:{function}"
    return ModelSource(function=name, image_shape=SHAPE, num_classes=CLASSES, **options)  # type: ignore[arg-type]


def build(source: ModelSource) -> keras.Model:
    return build_model(source.function, SHAPE, CLASSES)


def saved(source: ModelSource, directory: Path) -> tuple[keras.Model, Path]:
    """Builds a model, changes its weights as a training does, and saves it."""
    model = build(source)
    for weight in model.weights:
        weight.assign_add(np.full(tuple(weight.shape), 0.125, np.float32))
    path = directory / "model.keras"
    model.save(path)
    return model, path


OWN = [
    ("build_gain", "'Gain' is no layer or function of Keras"),
    ("build_registered", "'RegisteredGain' is no layer or function of Keras"),
    ("build_lambda", "`Lambda` layer whose `function` is a Python lambda"),
    ("build_tf_softmax", "'softmax_v2' is no layer or function of Keras"),
    ("build_own_relu", "Keras opens another model: its outputs differ by up to"),
]


@pytest.mark.parametrize(("function", "reason"), OWN)
def test_model_that_plain_keras_does_not_open_is_known_before_the_training(
    function: str, reason: str
) -> None:
    source = source_of(function)
    checked = check_round_trip(build(source), source)
    assert not checked.opens_in_keras
    assert reason in checked.reason


@pytest.mark.parametrize(
    "function", ["tests.own_models:build_tf_relu", "small-cnn", "tests.models:build_linear"]
)
def test_model_of_keras_layers_opens_in_plain_keras(function: str) -> None:
    source = ModelSource(function=function, image_shape=SHAPE, num_classes=CLASSES)
    checked = check_round_trip(build(source), source)
    assert (checked.opens_in_keras, checked.reason) == (True, "")


@pytest.mark.parametrize(("function", "_reason"), OWN)
def test_what_was_trained_is_what_is_evaluated(function: str, _reason: str, tmp_path: Path) -> None:
    source = source_of(function, opens_in_keras=False)
    model, path = saved(source, tmp_path)
    opened = open_model_file(path, "mine", source)
    images = probe_images(SHAPE)
    np.testing.assert_array_equal(predict(opened, images), predict(model, images))


def test_checkpoint_that_says_nothing_of_its_file_is_built_again_if_keras_fails(tmp_path: Path) -> None:
    source = source_of("build_gain")
    model, path = saved(source, tmp_path)
    opened = open_model_file(path, "mine", source)
    np.testing.assert_array_equal(predict(opened, probe_images(SHAPE)), predict(model, probe_images(SHAPE)))


def test_model_is_built_again_under_the_precision_of_its_training(tmp_path: Path) -> None:
    source = source_of("build_gain", opens_in_keras=False, dtype_policy="mixed_bfloat16")
    _, path = saved(source, tmp_path)
    assert open_model_file(path, "mine", source).layers[-1].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_model_that_cannot_be_saved_is_refused_before_the_training() -> None:
    source = source_of("build_not_saved")
    with pytest.raises(ModelError) as raised:
        check_round_trip(build(source), source)
    assert str(raised.value) == (
        "tests.own_models:build_not_saved builds a model that cannot be saved: Object NotSaved was created by passing "
        "non-serializable argument values in `__init__()`, and therefore the object must override `get_config()` in "
        "order to be serializable."
    )


def test_model_that_is_another_one_when_it_is_opened_is_refused_before_the_training() -> None:
    source = source_of("build_other_every_time")
    with pytest.raises(
        ModelError, match=r"cannot be saved and opened again: its outputs then differ by up to"
    ):
        check_round_trip(build(source), source)


def test_code_that_changed_since_the_training_is_noticed(tmp_path: Path) -> None:
    source = source_of("build_own_relu", opens_in_keras=False)
    model, path = saved(source, tmp_path)
    outputs = probe_outputs(model, SHAPE)
    assert outputs is not None
    trained = dataclasses.replace(source, probe_outputs=tuple(map(tuple, outputs)))
    open_model_file(path, "mine", trained)
    now = dataclasses.replace(trained, function="tests.own_models:build_tf_relu")
    with pytest.raises(
        ModelCodeError, match=r"^mine and tests\.own_models:build_tf_relu give another model than was trained"
    ):
        open_model_file(path, "mine", now)
    other_layers = dataclasses.replace(trained, function="tests.own_models:build_gain")
    with pytest.raises(
        ModelCodeError, match=r"^mine does not fit the model that tests\.own_models:build_gain builds: "
    ):
        open_model_file(path, "mine", other_layers)


def test_module_that_is_missing_at_the_evaluation_is_named_with_what_to_do(tmp_path: Path) -> None:
    source = source_of("build_gain", opens_in_keras=False)
    _, path = saved(source, tmp_path)
    with pytest.raises(
        ModelCodeError,
        match=r"^mine needs the code of its model\. Cannot import 'no_such_module'.*PYTHONPATH",
    ):
        open_model_file(path, "mine", dataclasses.replace(source, function="no_such_module:build"))


@pytest.mark.parametrize(
    ("outputs", "expected", "difference"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], None),
        ([[1.0, 2.0]], [[1.0, 2.0001]], None),
        ([[1.0, 2.0]], [[1.0, 2.5]], 0.5),
        ([[math.nan, math.inf]], [[math.nan, math.inf]], None),
        ([[math.nan, 2.0]], [[1.0, 2.0]], math.inf),
        ([[math.inf, 2.0]], [[-math.inf, 2.0]], math.inf),
        ([[1.0]], [[1.0, 2.0]], math.inf),
    ],
)
def test_outputs_differ_by_more_than_rounding(
    outputs: list[list[float]], expected: list[list[float]], difference: float | None
) -> None:
    assert find_difference(outputs, expected, SAME_MACHINE) == difference
