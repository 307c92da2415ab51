"""The models for photographs are those of their papers, can learn, and open in plain Keras. Building them is slow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnnlib.evaluation.pixel_range import find_own_scaling
from cnnlib.model_options import ModelOptions
from cnnlib.models.cost import model_cost
from cnnlib.models.registry import build_model, gives_probabilities
from cnnlib.models.round_trip import RoundTrip, check_round_trip
from cnnlib.models.source import ModelSource
from cnnlib.models.weights import take_weights
from cnnlib.models.zoo.entries import LISTED_CLASSES, PHOTOGRAPH, ZOO
from tests.unit.models.test_weights import save_weights_as_keras_2

# Parameters for 1,000 classes, as https://keras.io/api/applications states them in millions.
MILLIONS = {"resnet-50": 25.6, "efficientnet-v2-s": 21.6, "convnext-tiny": 28.6}


def test_photographs_have_the_models_that_are_listed_for_them() -> None:
    assert {name for name, model in ZOO.items() if model.image_shape == PHOTOGRAPH} == set(MILLIONS)


@pytest.mark.parametrize("name", MILLIONS)
def test_listed_costs_are_traced_and_parameters_are_those_of_the_paper(name: str) -> None:
    entry = ZOO[name]
    with tf.Graph().as_default():
        model = build_model(name, PHOTOGRAPH, LISTED_CLASSES)
        cost = model_cost(model, PHOTOGRAPH)
    assert (cost.parameters, cost.flops_per_image) == (entry.parameters, entry.flops_per_image)
    features = model.layers[-1].kernel.shape[0]
    assert round((cost.parameters + 990 * (features + 1)) / 1e6, 1) == MILLIONS[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_model_takes_small_grey_photographs_has_gradients_and_opens_again(name: str) -> None:
    shape, options = (32, 40, 1), ModelOptions(dropout=0.1)
    keras.utils.set_random_seed(0)
    model = build_model(name, shape, 3, options)
    assert gives_probabilities(model)
    assert find_own_scaling(model) == "0-255"
    images = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(np.float32)
    with tf.GradientTape() as tape:
        probabilities = model(images, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(np.array([0, 1, 2, 0]), probabilities)
    gradients = tape.gradient(losses, model.trainable_variables)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert np.mean([np.any(gradient) for gradient in gradients]) > 0.9
    source = ModelSource(function=name, image_shape=shape, num_classes=3, options=options)
    assert check_round_trip(model, source) == RoundTrip(opens_in_keras=True)


@pytest.mark.parametrize(
    ("name", "backbone", "options"),
    [
        ("resnet-50", keras.applications.ResNet50, {}),
        ("efficientnet-v2-s", keras.applications.EfficientNetV2S, {"include_preprocessing": False}),
        ("convnext-tiny", keras.applications.ConvNeXtTiny, {"include_preprocessing": False}),
    ],
)
def test_model_takes_the_weights_of_keras_applications_all_but_the_head(
    name: str, backbone: Callable[..., keras.Model], options: dict[str, Any], tmp_path: Path
) -> None:
    keras.utils.set_random_seed(1)
    source = backbone(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg", **options)
    path = save_weights_as_keras_2(source, tmp_path / "notop.h5")
    model = build_model(name, (32, 32, 3), 3)
    taken = take_weights(model, path, "notop.h5")
    assert taken.left == ("probabilities",)
    assert sum(weight.value.shape.num_elements() for weight in source.weights) == model.count_params() - sum(
        weight.value.shape.num_elements() for weight in model.layers[-1].weights
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    features = keras.Model(model.input, model.layers[-1].input)(images)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    scaled = {
        "resnet-50": keras.applications.resnet.preprocess_input(images.copy()),
        "efficientnet-v2-s": images / 127.5 - 1,
        "convnext-tiny": ((images / 255 - mean) / deviation).astype(np.float32),
    }
    expected = source(scaled[name])
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def test_grey_image_is_an_image_of_three_equal_channels() -> None:
    keras.utils.set_random_seed(0)
    grey = build_model("convnext-tiny", (32, 32, 1), 3)
    keras.utils.set_random_seed(0)
    colours = build_model("convnext-tiny", (32, 32, 3), 3)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.float32)
    np.testing.assert_allclose(grey(images), colours(images.repeat(3, axis=-1)), rtol=1e-5)
