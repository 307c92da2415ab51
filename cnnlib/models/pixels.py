"""Converts stored pixels to a model's inputs. Training, validation and evaluation all use this one function."""

from __future__ import annotations

import tensorflow as tf


def pixels_to_inputs(images: tf.Tensor, divisor: float = 1.0) -> tf.Tensor:
    """Converts uint8 pixels to float32 of the same shape.

    Args:
        divisor: 1 for a model that takes raw pixels, as all models of this project do; 255 for one that takes 0..1.
    """
    inputs = tf.cast(images, tf.float32)
    return inputs if divisor == 1 else inputs / divisor
