"""Moves pixels: flips, shifts and affine warps, each row of a batch in its own way. What comes in is black."""

from __future__ import annotations

import math

import tensorflow as tf


def flip_rows(images: tf.Tensor, flipped: tf.Tensor, axis: int) -> tf.Tensor:
    """Mirrors some rows.

    Args:
        images: [rows, height, width, channels].
        flipped: bool [rows].
        axis: 2: left and right change places; 1: top and bottom.
    """
    return tf.where(flipped[:, None, None, None], tf.reverse(images, [axis]), images)


def shift_rows(images: tf.Tensor, down: tf.Tensor, right: tf.Tensor, most: int) -> tf.Tensor:
    """Shifts each row by whole pixels, as a crop of the image with a border does.

    Args:
        images: [rows, height, width, channels].
        down, right: int32 [rows], -most..most.
    """
    _, height, width, _ = images.shape
    padded = tf.pad(images, [[0, 0], [most, most], [most, most], [0, 0]])
    vertical = (most - down)[:, None] + tf.range(height)
    horizontal = (most - right)[:, None] + tf.range(width)
    return tf.gather(tf.gather(padded, vertical, axis=1, batch_dims=1), horizontal, axis=2, batch_dims=1)


def affine(
    degrees: tf.Tensor, shear_x: tf.Tensor, shear_y: tf.Tensor, right: tf.Tensor, down: tf.Tensor
) -> tf.Tensor:
    """Returns matrices that map a pixel of the output, from the centre, to where it comes from: [rows, 2, 3].

    Args:
        degrees: float32 [rows], counterclockwise.
        shear_x, shear_y: float32 [rows], pixels to the side per pixel of distance.
        right, down: float32 [rows], pixels.
    """
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Rotation after shear: [cos -sin; sin cos] [1 shear_x; shear_y 1].
    return tf.stack(
        [
            tf.stack([cos - sin * shear_y, cos * shear_x - sin, -right], axis=1),
            tf.stack([sin + cos * shear_y, sin * shear_x + cos, -down], axis=1),
        ],
        axis=1,
    )


def warp_rows(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Warps each row by its own matrix, with bilinear interpolation; returns float32.

    Args:
        images: [rows, height, width, channels].
        matrices: see `affine`.
    """
    rows, height, width, _ = images.shape
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    (a, b, right), (c, d, down) = (tf.unstack(row, axis=1) for row in tf.unstack(matrices, axis=1))
    # TensorFlow counts pixels from the corner.
    offset_x = centre_x - a * centre_x - b * centre_y + right
    offset_y = centre_y - c * centre_x - d * centre_y + down
    zeros = tf.zeros([rows, 2])
    transforms = tf.concat([tf.stack([a, b, offset_x, c, d, offset_y], axis=1), zeros], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
