"""The cost of a model is counted on its graph, however its layers are nested, shared or written."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import layers

from cnnlib.models.cost import ModelCost, model_cost
from cnnlib.models.registry import build_model

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE = (12, 10, 3)


def sequential(*inner: keras.Layer, shape: tuple[int, ...] = SHAPE) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *inner])


def flops(*inner: keras.Layer) -> int | None:
    return model_cost(sequential(*inner), SHAPE).flops_per_image


def test_seed_cnn_costs_what_the_benchmarks_count() -> None:
    cost = model_cost(build_model("seed-cnn", (28, 28, 1), 10), (28, 28, 1))
    assert cost == ModelCost(parameters=47_090, flops_per_image=106_749_696 // 3)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(5, 3), 2 * 10 * 8 * 5 * 3 * 3 * 3),
        (layers.Conv2D(5, 3, strides=2, padding="same"), 2 * 6 * 5 * 5 * 3 * 3 * 3),
        (layers.Conv2D(6, 3, groups=3), 2 * 10 * 8 * 6 * 3 * 3 * 1),
        (layers.Conv2D(5, 3, dilation_rate=2), 2 * 8 * 6 * 5 * 3 * 3 * 3),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 2 * 10 * 8 * 3 * 2 * 3 * 3),
        (layers.SeparableConv2D(5, 3), 2 * 10 * 8 * (3 * 3 * 3 + 3 * 5)),
        (layers.Conv2DTranspose(5, 3, strides=2), 2 * 12 * 10 * 3 * 3 * 3 * 5),
        (layers.Dense(5), 2 * 12 * 10 * 3 * 5),
        (layers.MaxPooling2D(2), 0),
        (layers.BatchNormalization(), 0),
        (layers.ReLU(), 0),
    ],
    ids=lambda value: value.name if isinstance(value, keras.Layer) else "",
)
def test_a_layer_costs_two_operations_per_weight_and_position(layer: keras.Layer, expected: int) -> None:
    assert flops(layer) == expected


def test_layers_of_a_nested_model_count() -> None:
    inner = sequential(layers.Conv2D(4, 3), layers.MaxPooling2D(2), shape=(None, None, 3))
    assert flops(inner, layers.Conv2D(2, 1)) == 2 * 10 * 8 * 4 * 27 + 2 * 5 * 4 * 2 * 4


def test_a_layer_that_is_called_twice_counts_twice_and_is_held_once() -> None:
    inputs = keras.Input(SHAPE)
    conv = layers.Conv2D(3, 3, padding="same", use_bias=False)
    model = keras.Model(inputs, conv(conv(inputs)))
    assert model_cost(model, SHAPE) == ModelCost(parameters=81, flops_per_image=2 * 2 * 120 * 81)


class Gated(keras.layers.Layer):
    """A layer of a user's own with a product in it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs) * keras.ops.sigmoid(self.dense(inputs))


def test_a_layer_of_a_users_own_counts_by_what_it_does() -> None:
    assert flops(layers.Flatten(), Gated()) == 2 * 2 * 360 * 4


def test_a_loop_of_unknown_length_makes_the_operations_unknown() -> None:
    model = sequential(layers.Reshape((12, 30)), layers.LSTM(4, use_cudnn=False), layers.Dense(2))
    cost = model_cost(model, SHAPE)
    assert cost.flops_per_image is None
    assert cost.parameters == model.count_params() > 0


def test_moving_averages_count_as_parameters() -> None:
    assert model_cost(sequential(layers.BatchNormalization()), SHAPE).parameters == 4 * 3


@pytest.mark.parametrize("name", ["seed-cnn", "small-cnn", "dnn"])
def test_products_cost_what_tensorflows_profiler_counts(name: str) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.ops import get_stats_for_node_def  # the profiler adds these up

    model = build_model(name, (28, 28, 1), 10)
    spec = tf.TensorSpec([1, 28, 28, 1], tf.float32)
    graph = tf.function(model, autograph=False).get_concrete_function(spec).graph
    products = [each for each in graph.get_operations() if each.type in ("Conv2D", "MatMul")]
    counted = sum(get_stats_for_node_def(graph, each.node_def, "flops").value for each in products)
    assert model_cost(model, (28, 28, 1)).flops_per_image == counted > 0
