"""The dense network that the tutorial compares the CNN with: raw pixels in, class probabilities out."""

from __future__ import annotations

import keras
from keras import layers

from cnnlib.shapes import ImageShape


def build_dnn(image_shape: ImageShape, num_classes: int) -> keras.Model:
    """Builds a dense network of two hidden layers: 235,146 parameters for 28x28x1 and 10 classes.

    The first hidden layer has a weight per pixel and unit, so the parameters grow with the image.

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
