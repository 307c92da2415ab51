"""Densely connected networks, after Huang et al. 2017."""

from __future__ import annotations

import keras
from keras import layers

from cnnlib.models.zoo.blocks import class_probabilities, conv, drop, normalize_relu
from cnnlib.models.zoo.options import DenseNetOptions
from cnnlib.shapes import ImageShape


def build_densenet_bc(
    image_shape: ImageShape, num_classes: int, options: DenseNetOptions | None = None
) -> keras.Model:
    """Builds DenseNet-BC, the densely connected network for CIFAR of https://arxiv.org/abs/1608.06993, section 3.

    Three dense blocks of n bottlenecks, each of which adds `growth` channels to all that came before; between the
    blocks, a transition keeps a part of the channels and halves the image. Depth 100 with growth 12 has 0.77 million
    parameters on CIFAR-10.

    Args:
        image_shape: height, width, channels; height and width at least 8.
        num_classes: size of the last layer.
        options: depth, growth, compression and dropout; None: the defaults.
    """
    options = DenseNetOptions() if options is None else options
    inputs = keras.Input(image_shape)
    x = layers.Rescaling(1 / 255)(inputs)
    x = conv(x, 2 * options.growth)
    for stage in range(3):
        if stage:
            x = _transition(x, options)
        for _ in range(options.blocks):
            x = layers.Concatenate()([x, _bottleneck(x, options)])
    x = layers.GlobalAveragePooling2D()(normalize_relu(x))
    return keras.Model(inputs, class_probabilities(num_classes)(x), name="densenet_bc")


def _bottleneck(x: keras.KerasTensor, options: DenseNetOptions) -> keras.KerasTensor:
    """Returns the channels that a layer adds: a 1x1 convolution to 4 growth channels, then a 3x3 convolution."""
    y = drop(conv(normalize_relu(x), 4 * options.growth, kernel=1), options.dropout)
    return drop(conv(normalize_relu(y), options.growth), options.dropout)


def _transition(x: keras.KerasTensor, options: DenseNetOptions) -> keras.KerasTensor:
    """Keeps a part of the channels, at least one, and halves height and width."""
    channels = max(1, int(x.shape[-1] * options.compression))
    x = drop(conv(normalize_relu(x), channels, kernel=1), options.dropout)
    return layers.AveragePooling2D(2)(x)
