"""Random erasing (Zhong et al. 2020): a rectangle of noise hides a part of the image."""

from __future__ import annotations

import math

import tensorflow as tf

from cnnlib.training.augment.draws import Draws, between

_AREA = (0.02, 0.33)  # parts of the image
_ASPECT = (0.3, 1 / 0.3)


def erase_rows(images: tf.Tensor, probability: float, draws: Draws, purpose: int) -> tf.Tensor:
    """Erases a rectangle of some rows; returns float32.

    Its area is 2 to 33 % of the image, its aspect ratio 0.3 to 3.3, as in the paper's algorithm 1; a side that is too
    long is cut, where the paper draws again. One image of noise per step serves for all rows.

    Args:
        images: [rows, height, width, channels], 0..255.
        probability: of a row to be erased, 0..1.
    """
    _, height, width, channels = images.shape
    drawn = draws.uniform(purpose, 5)
    area = between(drawn[:, 1], *_AREA) * (height * width)
    aspect = tf.exp(between(drawn[:, 2], *map(math.log, _ASPECT)))
    tall, wide = tf.minimum(tf.sqrt(area * aspect), height), tf.minimum(tf.sqrt(area / aspect), width)
    chosen = tf.cast(drawn[:, 0] < probability, tf.float32)
    mask = rectangles(
        drawn[:, 3] * (height - tall), drawn[:, 4] * (width - wide), tall * chosen, wide, images.shape
    )
    noise = 256 * draws.uniform_of_step(purpose, (1, height, width, channels))
    return tf.where(mask, noise, tf.cast(images, tf.float32))


def rectangles(
    top: tf.Tensor, left: tf.Tensor, tall: tf.Tensor, wide: tf.Tensor, shape: tf.TensorShape
) -> tf.Tensor:
    """Returns which pixels lie in a rectangle of their row: bool [rows, height, width, 1].

    A pixel lies in it if its centre does. All of a rectangle's numbers are float32 [rows], in pixels.
    """
    _, height, width, _ = shape
    y, x = tf.range(height, dtype=tf.float32) + 0.5, tf.range(width, dtype=tf.float32) + 0.5
    rows = tf.logical_and(y >= top[:, None], y < (top + tall)[:, None])
    columns = tf.logical_and(x >= left[:, None], x < (left + wide)[:, None])
    return tf.logical_and(rows[:, :, None], columns[:, None, :])[..., None]
