"""Costs by arithmetic are those of the Keras models of the same name."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys

import numpy as np
import pytest
from keras import layers

from cnnlib.models import growth, maps
from cnnlib.models.cost import model_cost
from cnnlib.models.growth import list_growth, registered_cost
from cnnlib.models.registry import build_model, model_names

SHAPES = [(28, 28, 1), (45, 62, 3)]  # the second is odd at some pooling and at the stride


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", model_names())
@pytest.mark.usefixtures("strategy")
def test_costs_are_those_of_the_keras_model(name: str, shape: growth.ImageShape) -> None:
    model = build_model(name, shape, 7)
    cost = registered_cost(name, shape, 7)
    assert cost.parameters == model.count_params()
    assert cost.flops == model_cost(model, shape).flops_per_image
    # A Flatten gives what it was given, in another shape.
    computing = [each for each in model.layers if not isinstance(each, layers.InputLayer | layers.Flatten)]
    assert cost.activation_values == sum(math.prod(each.output.shape[1:]) for each in computing)


def test_growth_goes_from_fashion_mnist_to_4k_for_every_registered_model() -> None:
    growths = list_growth()
    assert {each.model for each in growths} == set(model_names())
    for name in model_names():
        shapes = [each.image_shape for each in growths if each.model == name]
        assert (shapes[0], shapes[-1]) == ((28, 28, 1), (2160, 3840, 1))


def test_dense_network_needs_a_weight_per_pixel_and_the_pooled_cnn_none() -> None:
    costs = {(each.model, each.image_shape[0]): each.cost for each in list_growth()}
    pixels = 2160 * 3840
    assert costs["dnn", 2160].parameters == 256 * pixels + 256 + 256 * 128 + 128 + 128 * 10 + 10
    assert costs["small-cnn", 2160].parameters == costs["small-cnn", 28].parameters == 178_754
    assert costs["seed-cnn", 2160].parameters == 47_090 + 128 * 8 * (270 * 480 - 3 * 3)


def test_activation_bytes_are_four_per_value() -> None:
    cost = registered_cost("dnn", (2, 3, 1), 5)
    # Rescaled pixels, two hidden layers, classes.
    assert cost.activation_bytes == 4 * (6 + 256 + 128 + 5)


@pytest.mark.parametrize("module", [growth, maps])
def test_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module, extraglobs={"np": np})  # type: ignore[arg-type]
    assert result.attempted >= 1
    assert result.failed == 0


def test_growth_loads_neither_tensorflow_nor_keras() -> None:
    program = (
        "import sys; from cnnlib.models.growth import list_growth; list_growth();"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
