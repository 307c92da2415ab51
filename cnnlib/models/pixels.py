"""From stored pixels to what a model takes: the one way, for training, validation and evaluation."""

from __future__ import annotations

import tensorflow as tf


def pixels_to_inputs(images: tf.Tensor, divisor: float = 1.0) -> tf.Tensor:
    """Pixels, uint8, as float32 of the same shape.

    Args:
        divisor: 1 for a model that takes raw pixels, as all of this project's do; 255 for one that takes 0..1.
    """
    inputs = tf.cast(images, tf.float32)
    return inputs if divisor == 1 else inputs / divisor
