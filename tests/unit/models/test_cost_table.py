"""The table of costs has the costs of the Keras models, and tracing them allocates no weights."""

from __future__ import annotations

import doctest
import math
import resource
import subprocess
import sys

import pytest
from keras import layers

from cnnlib.models import cost, cost_table
from cnnlib.models.cost import model_cost, trace_cost, trace_cost_table
from cnnlib.models.cost_table import COST_TABLE, GROWING, format_cost_table, load_cost_table, registered_cost
from cnnlib.models.registry import build_model

SHAPES = [(28, 28, 1), (45, 62, 3)]  # the second is odd at some pooling and at the stride


@pytest.mark.usefixtures("strategy")
def test_table_is_what_the_keras_models_cost() -> None:
    traced = trace_cost_table()
    outdated = "Run python -m cnnlib.models.cost > cnnlib/models/cost_table.json"
    assert load_cost_table() == traced, outdated
    assert COST_TABLE.read_text() == format_cost_table(traced), outdated


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", GROWING)
@pytest.mark.usefixtures("strategy")
def test_costs_are_those_of_the_keras_model(name: str, shape: cost_table.ImageShape) -> None:
    model = build_model(name, shape, 7)
    traced = trace_cost(name, shape, 7)
    assert traced.parameters == model.count_params()
    assert traced.flops_per_image == model_cost(model, shape).flops_per_image
    # A Flatten outputs its inputs in another shape.
    computing = [each for each in model.layers if not isinstance(each, layers.InputLayer | layers.Flatten)]
    assert traced.activation_values == sum(math.prod(each.output.shape[1:]) for each in computing)


def test_table_goes_from_fashion_mnist_to_4k_for_every_model_of_the_tutorial() -> None:
    costs = load_cost_table()
    assert {each.model for each in costs} == set(GROWING)
    for name in GROWING:
        shapes = [each.image_shape for each in costs if each.model == name]
        assert (shapes[0], shapes[-1]) == ((28, 28, 1), (2160, 3840, 1))


def test_dense_network_needs_a_weight_per_pixel_and_the_pooled_cnn_none() -> None:
    costs = {(each.model, each.image_shape[0]): each for each in load_cost_table()}
    pixels = 2160 * 3840
    assert costs["dnn", 2160].parameters == 256 * pixels + 256 + 256 * 128 + 128 + 128 * 10 + 10
    assert costs["small-cnn", 2160].parameters == costs["small-cnn", 28].parameters == 178_754
    assert costs["seed-cnn", 2160].parameters == 47_090 + 128 * 8 * (270 * 480 - 3 * 3)


@pytest.mark.usefixtures("strategy")
def test_tutorials_4k_image_takes_billions_of_parameters_in_a_dense_network_and_no_more_in_the_cnn() -> None:
    tutorial, ultra_hd = (2160, 4096, 3), (2160, 3840, 3)
    for shape, inputs in ((tutorial, 26_542_080), (ultra_hd, 24_883_200)):
        dense = trace_cost("dnn", shape, 10)
        assert dense.parameters == 256 * inputs + 256 + 256 * 128 + 128 + 128 * 10 + 10 > 6_000_000_000
        # Rescaled pixels, two hidden layers, classes.
        assert dense.activation_values == inputs + 256 + 128 + 10
        # Two more channels: 2 * 24 more 3x3 kernels in the first convolution, whatever the image size.
        assert trace_cost("small-cnn", shape, 10).parameters == 178_754 + 2 * 24 * 9


@pytest.mark.usefixtures("strategy")
def test_tracing_allocates_no_weights() -> None:
    trace_cost("dnn", (28, 28, 1), 10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    traced = trace_cost("dnn", (2160, 3840, 1), 10)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 2**18 < 4 * traced.parameters / 2**10  # 256 MiB against weights of 8 GB


@pytest.mark.usefixtures("strategy")
def test_activation_bytes_are_four_per_value() -> None:
    traced = trace_cost("dnn", (2, 3, 1), 5)
    # Rescaled pixels, two hidden layers, classes.
    assert traced.activation_bytes == 4 * (6 + 256 + 128 + 5)


def test_size_that_the_table_lacks_is_an_error() -> None:
    with pytest.raises(KeyError, match="32"):
        registered_cost("seed-cnn", (32, 32, 1))


@pytest.mark.parametrize("module", [cost, cost_table])
def test_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted >= 1
    assert result.failed == 0


def test_table_loads_neither_tensorflow_nor_keras() -> None:
    program = (
        "import sys; from cnnlib.models.cost_table import load_cost_table; load_cost_table();"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
