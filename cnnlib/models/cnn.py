"""Convolutional networks: raw pixels in, class probabilities out."""

from __future__ import annotations

import keras
from keras import layers

from cnnlib.shapes import ImageShape


def build_seed_cnn(image_shape: ImageShape, num_classes: int) -> keras.Model:
    """Builds the tutorial's network, layer by layer: 47,090 parameters for 28x28x1 and 10 classes.

    The first layer scales the pixels to 0..1 and has no parameters; the tutorial scales them outside the model.

    Args:
        image_shape: height, width, channels; height and width at least 8 (three poolings).
        num_classes: size of the last layer.
    """
    return keras.Sequential(
        [
            keras.Input(image_shape),
            layers.Rescaling(1 / 255),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 3, padding="same"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, padding="same"),
            layers.Conv2D(8, 3, padding="same"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            _class_probabilities(num_classes),
        ],
        name="seed_cnn",
    )


def build_small_cnn(image_shape: ImageShape, num_classes: int) -> keras.Model:
    """Builds this project's network: fewer multiplications than the seed model, and a better accuracy.

    It has batch normalisation and a strided second convolution. As everywhere in Keras, batch normalisation takes its
    statistics over the rows of a replica: give a replica at least 16 rows.

    Args:
        image_shape: height, width, channels; height and width at least 4.
        num_classes: size of the last layer.
    """
    inputs = keras.Input(image_shape)
    x = layers.Rescaling(1 / 255)(inputs)
    x = _conv_block(x, 24)
    x = _conv_block(x, 48, strides=2)
    x = _conv_block(x, 64)
    x = layers.MaxPooling2D(2)(x)
    x = _conv_block(x, 96)
    x = _conv_block(x, 96)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, _class_probabilities(num_classes)(x), name="small_cnn")


def _conv_block(x: keras.KerasTensor, filters: int, strides: int = 1) -> keras.KerasTensor:
    # No bias in the convolution: the normalisation has one of its own.
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x)


def _class_probabilities(num_classes: int) -> keras.layers.Layer:
    # float32 in every precision: a softmax in bfloat16 has only 3 digits.
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")
