"""The pixel range of a model of unknown origin is found in its layers, and checked on rows with labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from cnnlib.errors import ModelError
from cnnlib.evaluation.pixel_range import Sample, find_own_scaling, find_pixel_range
from cnnlib.models.pixels import pixels_to_inputs
from cnnlib.models.probe import predict
from tests.unit.evaluation.test_predictor import CLASSES, ROWS, SHAPE, nearest_pattern

pytestmark = pytest.mark.usefixtures("strategy")

SAMPLE = Sample(ROWS.images, ROWS.labels)


def normalization(mean: float) -> layers.Layer:
    return layers.Normalization(mean=mean, variance=1.0)


def put_before(model: keras.Model, *first: Any) -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE), *first, *model.layers])


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (lambda: [layers.Rescaling(1 / 255)], "0-255"),
        (lambda: [layers.Rescaling(1 / 127.5, offset=-1)], "0-255"),
        (lambda: [layers.Rescaling(2.0, offset=-1)], "0-1"),
        (lambda: [layers.RandomFlip(), layers.Rescaling(1 / 255)], "0-255"),
        (lambda: [normalization(110.0)], "0-255"),
        (lambda: [normalization(0.45)], "0-1"),
        (lambda: [keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255)])], "0-255"),
        (list, None),
        (lambda: [layers.Dense(1), layers.Rescaling(1 / 255)], None),
    ],
)
def test_own_scaling_at_the_input_is_found(first: Callable[[], list[Any]], expected: str | None) -> None:
    assert find_own_scaling(put_before(nearest_pattern(), *first())) == expected


def test_own_scaling_of_a_functional_model_with_a_model_in_it_is_found() -> None:
    inner_input = keras.Input(SHAPE)
    inner = keras.Model(inner_input, layers.Rescaling(1 / 255)(inner_input))
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(inner(inputs))))
    assert find_own_scaling(model) == "0-255"


def test_a_model_that_scales_pixels_itself_takes_raw_pixels() -> None:
    model = put_before(nearest_pattern(), layers.Rescaling(1 / 255))
    assert find_pixel_range(model, SHAPE, "mine", SAMPLE) == "0-255"


def test_a_model_without_scaling_that_is_right_with_0_1_takes_0_1() -> None:
    assert find_pixel_range(nearest_pattern(), SHAPE, "mine", SAMPLE) == "0-1"
    assert find_pixel_range(nearest_pattern(), SHAPE, "mine", None) == "0-1"


def test_a_model_that_is_right_with_another_range_is_refused_with_the_flag() -> None:
    with pytest.raises(
        ModelError, match=r"mine takes is not clear\. Of 230 rows, .*Give --pixel-range=0-255"
    ):
        find_pixel_range(nearest_pattern(scale=255.0), SHAPE, "mine", SAMPLE)


def test_a_model_that_divides_in_a_way_that_no_layer_tells_is_refused_with_the_flag() -> None:
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, nearest_pattern()(inputs / 255.0))
    with pytest.raises(ModelError, match="Give --pixel-range=0-255"):
        find_pixel_range(model, SHAPE, "mine", SAMPLE)


def test_a_dozen_rows_are_enough_to_ask() -> None:
    """Of twelve rows, six that only another range gets right are no chance."""
    model = nearest_pattern(scale=255.0)
    few = Sample(ROWS.images[:12], ROWS.labels[:12])
    right = {
        each: int(
            (predict(model, pixels_to_inputs(few.images, each).numpy()).argmax(axis=1) == few.labels).sum()
        )
        for each in ("0-255", "0-1")
    }
    assert right["0-255"] - right["0-1"] >= 6
    with pytest.raises(ModelError, match="Give --pixel-range=0-255"):
        find_pixel_range(model, SHAPE, "mine", few)


def test_pixels_are_scaled_as_the_range_says() -> None:
    from cnnlib.models.pixels import pixels_to_inputs

    pixels = np.array([0, 51, 255], np.uint8)
    assert pixels_to_inputs(pixels).numpy().tolist() == [0, 51, 255]
    np.testing.assert_allclose(pixels_to_inputs(pixels, "0-1"), [0, 0.2, 1], rtol=1e-6)
    np.testing.assert_allclose(pixels_to_inputs(pixels, "-1..1"), [-1, -0.6, 1], rtol=1e-6)


def test_imagenet_preprocessing_is_that_of_keras_and_is_suggested_where_it_is_clearly_better() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 4, 4, 3), np.uint8)
    inputs = pixels_to_inputs(images, "imagenet").numpy()
    expected = keras.applications.imagenet_utils.preprocess_input(images.astype(np.float32), mode="torch")
    np.testing.assert_allclose(inputs, expected, atol=1e-5)
    # A model that is right where the mean of red, as ImageNet's preprocessing gives it, is above 0.
    red = np.zeros((48, 2), np.float32)
    red[::3, 1] = 1.0
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2, use_bias=False)])
    model.layers[-1].set_weights([red])
    labels = (inputs[..., 0].mean(axis=(1, 2)) > 0).astype(np.int32)
    with pytest.raises(ModelError, match=r"300 with imagenet; 0-1 was expected\. Give --preprocess=imagenet"):
        find_pixel_range(model, (4, 4, 3), "mine", Sample(images, labels))
