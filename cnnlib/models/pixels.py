"""Converts stored pixels to a model's inputs. Training, validation and evaluation all use this one function."""

from __future__ import annotations

import tensorflow as tf

from cnnlib.evaluate_config import ModelInputs

# Of red, green and blue of 0..1, as https://pytorch.org/vision/stable/models.html and keras.applications state them.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels_to_inputs(images: tf.Tensor, pixel_range: ModelInputs = "0-255") -> tf.Tensor:
    """Converts uint8 pixels to float32 of the same shape.

    Args:
        pixel_range: what the model takes: raw pixels, as all models of this project do, or scaled to 0..1 or -1..1, or
            scaled to 0..1, less ImageNet's mean and divided by its standard deviation, which takes three channels.
    """
    inputs = tf.cast(images, tf.float32)
    if pixel_range == "0-1":
        return inputs / 255.0
    if pixel_range == "imagenet":
        return (inputs / 255.0 - _MEAN) / _DEVIATION
    if pixel_range == "-1..1":
        return inputs / 127.5 - 1.0
    return inputs
