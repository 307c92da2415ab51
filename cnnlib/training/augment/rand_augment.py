"""RandAugment (Cubuk et al. 2020): each row is changed by a few operations, drawn at random, of one magnitude.

All rows go through all operations, and those that a row did not draw change nothing in it. So the operations of a row
are applied in one order, geometry first, and the geometry of a row is one warp with one interpolation. Of the paper's
fourteen operations, equalize and sharpness are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cnnlib.training.augment.colour import (
    autocontrast,
    posterize,
    scale_brightness,
    scale_contrast,
    scale_saturation,
    solarize,
)
from cnnlib.training.augment.draws import Draws
from cnnlib.training.augment.geometry import affine

MAX_MAGNITUDE = 10.0
OPERATIONS = (
    "rotate", "shear_x", "shear_y", "translate_x", "translate_y",
    "brightness", "contrast", "saturation", "solarize", "posterize", "autocontrast", "identity",
)  # fmt: skip
# What each operation does at the largest magnitude.
_DEGREES, _SHEAR, _TRANSLATE, _BLEND = 30.0, 0.3, 0.33, 0.9
_POSTERIZE_BITS = 4


class RandAugment(NamedTuple):
    """What the rows of one worker drew in one step.

    Attributes:
        chosen: float32 [rows, operations], 1 if a row drew the operation.
        signed: the same, 1 or -1.
        magnitude: 0..1.
    """

    chosen: tf.Tensor
    signed: tf.Tensor
    magnitude: float

    @classmethod
    def draw(cls, count: int, magnitude: float, draws: Draws, purpose: int) -> RandAugment:
        """Draws `count` different operations for every row, with a magnitude of 0..10."""
        size = len(OPERATIONS)
        drawn = draws.uniform(purpose, 2 * size)
        last = tf.sort(drawn[:, :size], axis=1)[:, count - 1 : count]
        chosen = tf.cast(drawn[:, :size] <= last, tf.float32)
        return cls(chosen, chosen * tf.sign(drawn[:, size:] - 0.5), magnitude / MAX_MAGNITUDE)

    def matrices(self, height: int, width: int) -> tf.Tensor:
        """Returns the warp of every row, see `geometry.affine`."""
        of = self._signed
        return affine(
            of("rotate") * _DEGREES,
            of("shear_x") * _SHEAR,
            of("shear_y") * _SHEAR,
            of("translate_x") * _TRANSLATE * width,
            of("translate_y") * _TRANSLATE * height,
        )

    def recolour(self, images: tf.Tensor) -> tf.Tensor:
        """Changes the values of pixels. images: float32 [rows, height, width, channels], 0..255."""
        images = scale_brightness(images, 1 + self._signed("brightness") * _BLEND)
        images = scale_contrast(images, 1 + self._signed("contrast") * _BLEND)
        if images.shape[-1] == 3:
            images = scale_saturation(images, 1 + self._signed("saturation") * _BLEND)
        images = solarize(images, 256 - 256 * self.magnitude * self._chosen("solarize"))
        step = 2.0 ** round(_POSTERIZE_BITS * self.magnitude)
        images = posterize(images, step * self._chosen("posterize"))
        return autocontrast(images, self._chosen("autocontrast") > 0)

    def _signed(self, name: str) -> tf.Tensor:
        return self.signed[:, OPERATIONS.index(name)] * self.magnitude

    def _chosen(self, name: str) -> tf.Tensor:
        return self.chosen[:, OPERATIONS.index(name)]
