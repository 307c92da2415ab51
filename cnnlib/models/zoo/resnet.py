"""Residual networks for small images, after He et al. 2016, and wide ones, after Zagoruyko and Komodakis 2016."""

from __future__ import annotations

import keras
from keras import layers

from cnnlib.models.zoo.blocks import class_probabilities, conv, drop, normalize, normalize_relu
from cnnlib.models.zoo.options import ResNetOptions, WideResNetOptions
from cnnlib.shapes import ImageShape

_WIDE_BASE = 16  # filters of the first stage with a widen factor of 1


def build_resnet(
    image_shape: ImageShape, num_classes: int, options: ResNetOptions | None = None
) -> keras.Model:
    """Builds the residual network that He et al. 2016 trained on CIFAR-10 (https://arxiv.org/abs/1512.03385, 4.2).

    Three stages of n blocks of two 3x3 convolutions, with width, 2 width and 4 width filters; depth 20 has 0.27 million
    parameters. Where the size changes, the shortcut is a 1x1 convolution (option B of the paper, as in its networks for
    ImageNet) where the paper pads with zeros on CIFAR (option A): 2,752 parameters more, and layers that every version
    of Keras has.

    Args:
        image_shape: height, width, channels; height and width at least 8.
        num_classes: size of the last layer.
        options: depth and width; None: the defaults.
    """
    options = ResNetOptions() if options is None else options
    inputs = keras.Input(image_shape)
    x = layers.Rescaling(1 / 255)(inputs)
    x = normalize_relu(conv(x, options.width))
    for stage in range(3):
        for block in range(options.blocks):
            x = _residual(x, options.width * 2**stage, strides=2 if stage and not block else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, class_probabilities(num_classes)(x), name="resnet")


def build_wide_resnet(
    image_shape: ImageShape, num_classes: int, options: WideResNetOptions | None = None
) -> keras.Model:
    """Builds a wide residual network, WRN-depth-factor (https://arxiv.org/abs/1605.07146).

    Three stages of n blocks, normalised before each convolution, with 16, 32 and 64 times the widen factor filters.
    WRN-28-10 has 36.5 million parameters. Dropout stands between the two convolutions of a block, as in section 2.4.

    Args:
        image_shape: height, width, channels; height and width at least 8.
        num_classes: size of the last layer.
        options: depth, widen factor and dropout; None: the defaults.
    """
    options = WideResNetOptions() if options is None else options
    inputs = keras.Input(image_shape)
    x = layers.Rescaling(1 / 255)(inputs)
    x = conv(x, _WIDE_BASE)
    for stage in range(3):
        filters = _WIDE_BASE * options.widen_factor * 2**stage
        for block in range(options.blocks):
            strides = 2 if stage and not block else 1
            x = _preactivated(x, filters, strides=strides, dropout=options.dropout)
    x = layers.GlobalAveragePooling2D()(normalize_relu(x))
    return keras.Model(inputs, class_probabilities(num_classes)(x), name="wide_resnet")


def _residual(x: keras.KerasTensor, filters: int, *, strides: int) -> keras.KerasTensor:
    """Returns x plus what two normalised convolutions make of it, after a ReLU."""
    y = normalize_relu(conv(x, filters, strides=strides))
    y = normalize(conv(y, filters))
    changes = strides > 1 or x.shape[-1] != filters
    shortcut = normalize(conv(x, filters, kernel=1, strides=strides)) if changes else x
    return layers.ReLU()(layers.Add()([shortcut, y]))


def _preactivated(x: keras.KerasTensor, filters: int, *, strides: int, dropout: float) -> keras.KerasTensor:
    """Returns x plus what two convolutions make of it; each follows a normalisation and a ReLU."""
    active = normalize_relu(x)
    y = normalize_relu(conv(active, filters, strides=strides))
    y = conv(drop(y, dropout), filters)
    changes = strides > 1 or x.shape[-1] != filters
    # The authors' code takes the shortcut after the ReLU, like He et al. 2016b (https://arxiv.org/abs/1603.05027).
    shortcut = conv(active, filters, kernel=1, strides=strides) if changes else x
    return layers.Add()([shortcut, y])
