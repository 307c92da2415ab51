"""Layers that several models have in common."""

from __future__ import annotations

import keras
from keras import layers

MOMENTUM = 0.9
"""Of the moving statistics of batch normalisation, as in the code of the papers (there it is written as 0.1)."""


def conv(x: keras.KerasTensor, filters: int, kernel: int = 3, strides: int = 1) -> keras.KerasTensor:
    """Returns a convolution without bias: a normalisation with one of its own follows.

    Its weights are drawn as He et al. 2015 propose (https://arxiv.org/abs/1502.01852), section 2.2.
    """
    layer = layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal"
    )
    return layer(x)


def normalize(x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns x after batch normalisation."""
    return layers.BatchNormalization(momentum=MOMENTUM)(x)


def normalize_relu(x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns x after batch normalisation and a ReLU."""
    return layers.ReLU()(normalize(x))


def drop(x: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    """Returns x after dropout; x itself for a probability of 0."""
    return layers.Dropout(dropout)(x) if dropout else x


def class_probabilities(num_classes: int) -> keras.layers.Layer:
    """Returns the last layer of a model."""
    # float32 in every precision: a softmax in bfloat16 has only 3 digits.
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")
