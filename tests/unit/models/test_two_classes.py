"""A model with one output for two classes is scored as the model with two outputs that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from cnnlib.errors import ModelError
from cnnlib.models.two_classes import Kind, give_both_classes

pytestmark = pytest.mark.usefixtures("strategy")

LOGITS = np.array([[-30.0], [0.0], [2.0]], np.float32)
# 1 / (1 + exp(30)) = 9.3576e-14, 1 / (1 + exp(-2)) = 0.880797
EXPECTED = [[1.0, 9.3576e-14], [0.5, 0.5], [0.119203, 0.880797]]


def build(*last: Callable[[Any], Any]) -> keras.Model:
    """Builds a model of one number whose first layer gives it back."""
    inputs = keras.Input((1,))
    output = layers.Dense(1, kernel_initializer="ones")(inputs)
    for layer in last:
        output = layer(output)
    return keras.Model(inputs, output)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: build(), "auto"),
        (lambda: build(), "logits"),
        (lambda: build(layers.Activation("sigmoid")), "auto"),
        (lambda: build(layers.Activation("sigmoid", dtype="float32")), "probabilities"),
        (lambda: build(layers.Dense(1, kernel_initializer="ones", activation="sigmoid")), "auto"),
        (lambda: build(keras.ops.sigmoid), "auto"),
        (lambda: keras.Sequential([keras.Input((1,)), build(layers.Activation("sigmoid"))]), "auto"),
    ],
)
def test_second_class_has_the_output_and_the_first_the_rest(
    model: Callable[[], keras.Model], kind: Kind
) -> None:
    outputs = np.asarray(give_both_classes(model(), "mine", kind)(LOGITS))
    np.testing.assert_allclose(outputs, EXPECTED, rtol=1e-5)


@pytest.mark.parametrize("last", [layers.ReLU, lambda: layers.Activation("tanh"), lambda: layers.Softmax()])
def test_output_of_unknown_kind_must_be_declared(last: Callable[[], keras.Layer]) -> None:
    model = build(last())
    with pytest.raises(
        ModelError, match=r"^mine has one output for two classes, and its last layer, '.*--outputs"
    ):
        give_both_classes(model, "mine")
    assert give_both_classes(model, "mine", "logits").output_shape == (None, 2)
