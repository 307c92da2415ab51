"""Changes values of pixels: brightness, contrast, saturation, and what RandAugment adds. Images are float32, 0..255."""

from __future__ import annotations

import tensorflow as tf

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and TensorFlow convert


def scale_brightness(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Blends each row with black: factor 0 is black, 1 the image. factors: float32 [rows]."""
    return _clip(images * _spread(factors))


def scale_contrast(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Blends each row with its mean grey: factor 0 is that grey, 1 the image. factors: float32 [rows]."""
    mean = tf.reduce_mean(to_grey(images), axis=[1, 2, 3], keepdims=True)
    return _clip(mean + (images - mean) * _spread(factors))


def scale_saturation(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Blends each row with its greys: factor 0 is grey, 1 the image. factors: float32 [rows]."""
    grey = to_grey(images)
    return _clip(grey + (images - grey) * _spread(factors))


def solarize(images: tf.Tensor, thresholds: tf.Tensor) -> tf.Tensor:
    """Inverts pixels from a threshold on; 256 changes nothing. thresholds: float32 [rows]."""
    return tf.where(images >= _spread(thresholds), 255 - images, images)


def posterize(images: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Rounds pixels down to a multiple of a step; a step of 0 changes nothing. steps: float32 [rows]."""
    step = _spread(steps)
    return tf.where(step > 0, tf.math.floordiv(images, tf.maximum(step, 1)) * step, images)


def autocontrast(images: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Stretches each channel of the chosen rows to 0..255. chosen: bool [rows]."""
    low = tf.reduce_min(images, axis=[1, 2], keepdims=True)
    high = tf.reduce_max(images, axis=[1, 2], keepdims=True)
    stretched = (images - low) * (255 / tf.maximum(high - low, 1))
    return tf.where(tf.logical_and(_spread(chosen), high > low), stretched, images)


def to_grey(images: tf.Tensor) -> tf.Tensor:
    """Returns the grey of each pixel: [rows, height, width, 1]."""
    if images.shape[-1] == 1:
        return images
    return tf.reduce_sum(images * tf.constant(_GREY), axis=-1, keepdims=True)


def _spread(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def _clip(images: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(images, 0, 255)
