"""Convolutional networks: raw pixels in, class probabilities out."""

from __future__ import annotations

import keras
from keras import layers

from cnnlib.models.zoo.blocks import class_probabilities
from cnnlib.models.zoo.options import SeedCnnOptions, SmallCnnOptions
from cnnlib.shapes import ImageShape

_POOLINGS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}


def build_seed_cnn(
    image_shape: ImageShape, num_classes: int, options: SeedCnnOptions | None = None
) -> keras.Model:
    """Builds the tutorial's network, layer by layer: 47,090 parameters for 28x28x1 and 10 classes.

    The first layer scales the pixels to 0..1 and has no parameters; the tutorial scales them outside the model. As in
    the tutorial, only the first half of the convolutions has an activation.

    Args:
        image_shape: height, width, channels; by default height and width at least 8 (three poolings).
        num_classes: size of the last layer.
        options: the tutorial's knobs; None: as the tutorial has them.
    """
    options = SeedCnnOptions() if options is None else options
    model = keras.Sequential([keras.Input(image_shape), layers.Rescaling(1 / 255)], name="seed_cnn")
    for index, filters in enumerate(options.filters):
        activation = options.activation if index < (len(options.filters) + 1) // 2 else "linear"
        for layer in _seed_convolution(filters, options.stride if index == 0 else 1, activation, options):
            model.add(layer)
        if index % 2 and options.pooling != "none":
            model.add(_POOLINGS[options.pooling](2))
    model.add(layers.Flatten())
    for units in options.units:
        model.add(layers.Dense(units, activation=options.activation))
    if options.dropout:
        model.add(layers.Dropout(options.dropout))
    model.add(class_probabilities(num_classes))
    return model


def build_small_cnn(
    image_shape: ImageShape, num_classes: int, options: SmallCnnOptions | None = None
) -> keras.Model:
    """Builds this project's network: fewer multiplications than the seed model, and a better accuracy.

    It has batch normalisation and a strided second convolution. As everywhere in Keras, batch normalisation takes its
    statistics over the rows of a replica: give a replica at least 16 rows.

    Args:
        image_shape: height, width, channels; height and width at least 4.
        num_classes: size of the last layer.
        options: its filters and dropout; None: the defaults.
    """
    options = SmallCnnOptions() if options is None else options
    width = options.width
    inputs = keras.Input(image_shape)
    x = layers.Rescaling(1 / 255)(inputs)
    x = _conv_block(x, width)
    x = _conv_block(x, 2 * width, strides=2)
    x = _conv_block(x, 8 * width // 3)
    x = layers.MaxPooling2D(2)(x)
    x = _conv_block(x, 4 * width)
    x = _conv_block(x, 4 * width)
    x = layers.GlobalAveragePooling2D()(x)
    if options.dropout:
        x = layers.Dropout(options.dropout)(x)
    return keras.Model(inputs, class_probabilities(num_classes)(x), name="small_cnn")


def _seed_convolution(
    filters: int, stride: int, activation: str, options: SeedCnnOptions
) -> list[keras.layers.Layer]:
    """Returns a convolution; with batch normalisation, the activation follows the normalisation."""
    if not options.batch_norm:
        return [
            layers.Conv2D(
                filters, options.kernel, strides=stride, padding=options.padding, activation=activation
            )
        ]
    convolution = layers.Conv2D(
        filters, options.kernel, strides=stride, padding=options.padding, use_bias=False
    )
    return [convolution, layers.BatchNormalization(momentum=0.9), layers.Activation(activation)]


def _conv_block(x: keras.KerasTensor, filters: int, strides: int = 1) -> keras.KerasTensor:
    # No bias in the convolution: the normalisation has one of its own.
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x)
