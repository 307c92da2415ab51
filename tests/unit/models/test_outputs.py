"""Whether a model gives probabilities or logits is decided by what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers

from cnnlib.errors import ModelError
from cnnlib.models.outputs import find_output_kind

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE, CLASSES = (6, 6, 1), 4


def build(*last: Callable[[Any], Any]) -> keras.Model:
    inputs = keras.Input(SHAPE)
    x = layers.Dense(CLASSES)(layers.Flatten()(inputs))
    for layer in last:
        x = layer(x)
    return keras.Model(inputs, x)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.dense = layers.Flatten(), layers.Dense(CLASSES)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return tf.nn.softmax(self.dense(self.flatten(inputs)))


def average() -> keras.Model:
    inputs = keras.Input(SHAPE)
    members = [build(layers.Softmax())(inputs) for _ in range(2)]
    return keras.Model(inputs, layers.Average()(members))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: build(layers.Softmax()), "probabilities"),
        (lambda: build(layers.Softmax(), layers.Activation("linear", dtype="float32")), "probabilities"),
        (lambda: build(keras.ops.softmax), "probabilities"),
        (lambda: build(layers.Lambda(tf.nn.softmax)), "probabilities"),
        (Subclassed, "probabilities"),
        (average, "probabilities"),
        (build, "logits"),
        (lambda: build(layers.ReLU()), "logits"),
        (lambda: build(keras.ops.log_softmax), "logits"),
        (lambda: build(layers.Dense(CLASSES, kernel_initializer="zeros")), "logits"),
    ],
)
def test_outputs_that_add_up_to_one_are_probabilities(
    model: Callable[[], keras.Model], expected: str
) -> None:
    assert find_output_kind(model(), SHAPE, "mine") == expected


def test_probabilities_of_16_bits_are_probabilities() -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(layers.Softmax())
    finally:
        keras.config.set_dtype_policy(policy)
    assert find_output_kind(model, SHAPE, "mine") == "probabilities"


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_probabilities_of_16_bits_that_are_cast_are_probabilities(kind: str) -> None:
    """As the last layer of a model whose own type is float32: its sums are off by more than those of float32."""
    softmax = layers.Softmax(dtype=kind)
    model = build(lambda logits: layers.Activation("linear", dtype="float32")(softmax(logits)))
    assert model.dtype_policy.name == "float32"
    assert find_output_kind(model, SHAPE, "mine") == "probabilities"


def test_a_sigmoid_per_class_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"mine gives neither probabilities nor logits: .*Expected a softmax"
    ):
        find_output_kind(build(layers.Activation("sigmoid")), SHAPE, "mine")
