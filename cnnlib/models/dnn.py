"""The dense network that the tutorial challenges the CNN with."""

from __future__ import annotations

import keras
from keras import layers

from cnnlib.shapes import ImageShape


def build_dnn(image_shape: ImageShape, num_classes: int) -> keras.Model:
    """A dense network of two hidden layers: every pixel an input of its own, 235,146 parameters for 28x28x1.

    Args:
        image_shape: height, width, channels.
        num_classes: size of the last layer.
    """
    return keras.Sequential(
        [
            keras.Input(image_shape),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(128, activation="relu"),
            layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities"),
        ],
        name="dnn",
    )
