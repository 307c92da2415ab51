"""MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019): two rows give each other a part of their image and label.

The rows of a pair are neighbours in the global batch, whose order is random, so every pair of rows may meet. Both
belong to the same worker for any number of workers with an even batch.

A mixed label is float32 [rows, 3]: the row's own class, that of its partner, and the share of its own, 0..1.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import scipy.stats
import tensorflow as tf

from cnnlib.training.augment.draws import Draws
from cnnlib.training.augment.erase import rectangles

_QUANTILES = 4096


def mix_rows(
    images: tf.Tensor, labels: tf.Tensor, mixup: float, cutmix: float, draws: Draws, purpose: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each pair of rows by one of the two, by both equally often if both are given.

    Args:
        images: [rows, height, width, channels], 0..255; an even number of rows.
        labels: int32 [rows].
        mixup, cutmix: alpha of the Beta(alpha, alpha) distribution of the share; 0: not used.

    Returns:
        Images, float32, and mixed labels.
    """
    images = tf.cast(images, tf.float32)
    drawn = draws.uniform_of_pairs(purpose, 4)
    partners = swap_pairs(images)

    def blend() -> tuple[tf.Tensor, tf.Tensor]:
        share = to_rows(beta(drawn[:, 0], mixup))
        of_pixels = share[:, None, None, None]
        return images * of_pixels + partners * (1 - of_pixels), share

    def cut() -> tuple[tf.Tensor, tf.Tensor]:
        share = to_rows(beta(drawn[:, 0], cutmix))
        return _cut(images, partners, share, to_rows(drawn[:, 1]), to_rows(drawn[:, 2]))

    if mixup and cutmix:
        blends = to_rows(drawn[:, 3]) < 0.5
        (blended, blend_share), (pasted, cut_share) = blend(), cut()
        mixed = tf.where(blends[:, None, None, None], blended, pasted)
        share = tf.where(blends, blend_share, cut_share)
    else:
        mixed, share = blend() if mixup else cut()
    own, other = tf.cast(labels, tf.float32), tf.cast(swap_pairs(labels), tf.float32)
    return mixed, tf.stack([own, other, share], axis=1)


def swap_pairs(values: tf.Tensor) -> tf.Tensor:
    """Returns rows with the two of each pair exchanged."""
    pairs = tf.reshape(values, [values.shape[0] // 2, 2, *values.shape[1:]])
    return tf.reshape(tf.reverse(pairs, [1]), values.shape)


def to_rows(of_pairs: tf.Tensor) -> tf.Tensor:
    """Repeats a value of each pair for both of its rows."""
    return tf.repeat(of_pairs, 2)


def beta(drawn: tf.Tensor, alpha: float) -> tf.Tensor:
    """Returns numbers of 0..1 as numbers of the Beta(alpha, alpha) distribution, by a table of its quantiles."""
    return tf.gather(tf.constant(_quantiles(alpha)), tf.cast(drawn * _QUANTILES, tf.int32))


@functools.cache
def _quantiles(alpha: float) -> npt.NDArray[np.float32]:
    middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    quantiles: npt.NDArray[np.float32] = scipy.stats.beta.ppf(middles, alpha, alpha).astype(np.float32)
    return quantiles


def _cut(
    images: tf.Tensor, partners: tf.Tensor, share: tf.Tensor, y: tf.Tensor, x: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replaces a rectangle by the partner's. Its centre may be anywhere; the share is that of the pixels that stay."""
    _, height, width, _ = images.shape
    side = tf.sqrt(1 - share)
    tall, wide = side * height, side * width
    mask = rectangles(y * height - tall / 2, x * width - wide / 2, tall, wide, images.shape)
    stays = 1 - tf.reduce_mean(tf.cast(mask, tf.float32), axis=[1, 2, 3])
    return tf.where(mask, partners, images), stays
