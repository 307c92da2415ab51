"""Augments a worker's batch inside the compiled training step, on the device: every row anew in every step.

Order: flips, shift, one warp (rotation and the geometry of RandAugment), colours, erasing, mixing.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from cnnlib.config import AugmentConfig
from cnnlib.training.augment.colour import scale_brightness, scale_contrast, scale_saturation
from cnnlib.training.augment.draws import Draws, between
from cnnlib.training.augment.erase import erase_rows
from cnnlib.training.augment.geometry import affine, flip_rows, shift_rows, warp_rows
from cnnlib.training.augment.mix import mix_rows
from cnnlib.training.augment.rand_augment import RandAugment

Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""A function of images uint8 [rows, height, width, channels], labels int32 [rows], the step and the position of the
first row in the global batch. Returns images of the same shape, uint8 or float32 of 0..255, and labels, which are
mixed if rows are: see mix.py."""

# Each kind of draw has its own number. They are part of what a run computes, so they never change.
_FLIP, _SHIFT, _ROTATE, _COLOUR, _RAND, _ERASE, _MIX = range(1, 8)


def build_augment(config: AugmentConfig, *, batch_size: int, seed: int) -> Augment | None:
    """Builds the function that augments a worker's batch; None if the config asks for nothing.

    Args:
        batch_size: the global batch.
    """
    if config == AugmentConfig():
        return None

    def augment(
        images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, first_row: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        draws = Draws(seed, step, first_row, images.shape[0], batch_size)
        images = _move(images, config, draws)
        if config.erase:
            images = erase_rows(images, config.erase, draws, _ERASE)
        if config.mixes:
            return mix_rows(images, labels, config.mixup, config.cutmix, draws, _MIX)
        return images, labels

    return augment


def _move(images: tf.Tensor, config: AugmentConfig, draws: Draws) -> tf.Tensor:
    """Applies geometry and colours."""
    _, height, width, _ = images.shape
    if config.flip != "none":
        flips = draws.uniform(_FLIP, 2) < 0.5
        for axis, name in ((2, "horizontal"), (1, "vertical")):
            if config.flip in (name, "both"):
                images = flip_rows(images, flips[:, axis - 1], axis)
    if config.shift:
        shifts = tf.cast(draws.uniform(_SHIFT, 2) * (2 * config.shift + 1), tf.int32) - config.shift
        images = shift_rows(images, shifts[:, 0], shifts[:, 1], config.shift)
    if config.rotate:
        degrees = between(draws.uniform(_ROTATE, 1)[:, 0], -config.rotate, config.rotate)
        zeros = tf.zeros_like(degrees)
        images = warp_rows(images, affine(degrees, zeros, zeros, zeros, zeros))
    images = _jitter(images, config, draws)
    if config.rand_operations:
        rand = RandAugment.draw(config.rand_operations, config.rand_magnitude, draws, _RAND)
        images = rand.recolour(warp_rows(images, rand.matrices(height, width)))
    return images


def _jitter(images: tf.Tensor, config: AugmentConfig, draws: Draws) -> tf.Tensor:
    """Scales brightness, contrast and saturation, each row by factors of its own."""
    parts = (
        (config.brightness, scale_brightness),
        (config.contrast, scale_contrast),
        (config.saturation, scale_saturation),
    )
    if not any(most for most, _ in parts):
        return images
    drawn, images = draws.uniform(_COLOUR, len(parts)), tf.cast(images, tf.float32)
    for column, (most, scale) in enumerate(parts):
        if most:
            images = scale(images, between(drawn[:, column], 1 - most, 1 + most))
    return images
