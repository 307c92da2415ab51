"""The dense network that the tutorial compares the CNN with: raw pixels in, class probabilities out."""

from __future__ import annotations

import keras
from keras import layers

from cnnlib.models.zoo.blocks import class_probabilities
from cnnlib.models.zoo.options import DnnOptions
from cnnlib.shapes import ImageShape


def build_dnn(image_shape: ImageShape, num_classes: int, options: DnnOptions | None = None) -> keras.Model:
    """Builds a dense network of two hidden layers: 235,146 parameters for 28x28x1 and 10 classes.

    The first hidden layer has a weight per pixel and unit, so the parameters grow with the image.

    Args:
        image_shape: height, width, channels.
        num_classes: size of the last layer.
        options: its hidden layers; None: as the tutorial has them.
    """
    options = DnnOptions() if options is None else options
    model = keras.Sequential(
        [keras.Input(image_shape), layers.Rescaling(1 / 255), layers.Flatten()], name="dnn"
    )
    for units in options.units:
        if options.batch_norm:
            model.add(layers.Dense(units, use_bias=False))
            model.add(layers.BatchNormalization(momentum=0.9))
            model.add(layers.Activation(options.activation))
        else:
            model.add(layers.Dense(units, activation=options.activation))
        if options.dropout:
            model.add(layers.Dropout(options.dropout))
    model.add(class_probabilities(num_classes))
    return model
