"""Defines models that need their author's code; `--model tests.own_models:<function>` names one of them."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers

Shape = tuple[int, int, int]


class Gain(layers.Layer):  # type: ignore[misc]
    """A layer of a user's own, with a weight per input, which plain Keras does not know."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.gain


@keras.saving.register_keras_serializable(package="tests")
class RegisteredGain(Gain):
    """The same layer, which Keras knows in a process that has imported this module."""


class NotSaved(layers.Layer):  # type: ignore[misc]
    """A layer whose argument Keras cannot write into a file."""

    def __init__(self, scale: object) -> None:
        super().__init__()
        self.scale = scale

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs


def relu(x: tf.Tensor) -> tf.Tensor:
    """Computes something else than the function of this name in Keras."""
    return tf.minimum(tf.nn.relu(x), 0.5)


def build_gain(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model with a layer of its own."""
    return _build(image_shape, Gain(), layers.Dense(num_classes))


def build_wide_gain(
    image_shape: Shape, num_classes: int, *, width: int = 4, dropout: float = 0.0
) -> keras.Model:
    """Builds a model with a layer of its own, and with two options."""
    hidden = [layers.Dense(width, activation="relu"), layers.Dropout(dropout)]
    return _build(image_shape, *hidden, Gain(), layers.Dense(num_classes))


def build_registered(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model with a registered layer of its own."""
    return _build(image_shape, RegisteredGain(), layers.Dense(num_classes))


def build_lambda(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model with a Lambda layer."""
    return _build(image_shape, layers.Lambda(lambda x: x * 2.0), layers.Dense(num_classes))


def build_tf_softmax(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model with a function of TensorFlow as its activation."""
    return _build(image_shape, layers.Dense(num_classes, activation=tf.nn.softmax))


def build_tf_relu(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model with a function of TensorFlow that plain Keras knows by its name."""
    return _build(image_shape, layers.Dense(4, activation=tf.nn.relu), layers.Dense(num_classes))


def build_own_relu(image_shape: Shape, num_classes: int, width: int = 4) -> keras.Model:
    """Builds a model that plain Keras opens, but as another model: it takes `relu` for its own function."""
    # Fixed weights, because some make all outputs 0, where both functions agree.
    initializer = keras.initializers.RandomNormal(stddev=1.0, seed=3)
    hidden = layers.Dense(width, activation=relu, kernel_initializer=initializer)
    return _build(image_shape, hidden, layers.Dense(num_classes))


def build_sigmoids(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model whose outputs are neither probabilities nor logits."""
    return _build(image_shape, layers.Dense(num_classes, activation="sigmoid"))


def build_untrained(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model without a weight that could be trained."""
    return _build(image_shape, layers.Dense(num_classes, trainable=False))


def build_not_saved(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model that cannot be saved."""
    return _build(image_shape, NotSaved(object()), layers.Dense(num_classes))


def build_other_every_time(image_shape: Shape, num_classes: int) -> keras.Model:
    """Builds a model with a number that is in no weight, and that no two models share."""
    factor = float(tf.random.uniform([], 1.0, 100.0))
    return _build(image_shape, layers.Lambda(lambda x: x * factor), layers.Dense(num_classes))


def _build(image_shape: Shape, *last: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(image_shape), layers.Rescaling(1 / 255), layers.Flatten(), *last])
