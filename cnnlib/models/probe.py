"""A few images of noise, by whose outputs a model is compared with the one that is opened from its file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnnlib.shapes import ImageShape

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]

_BRIGHTNESS = (0.0, 1 / 64, 1 / 8, 1.0)  # a softmax that is saturated for bright noise is not for dark noise
_MOST_OUTPUTS = 16
SAME_MACHINE = 1e-4
"""The rounding that two copies of a model may differ by, as a fraction of the largest output."""
OTHER_MACHINE = 0.02
"""The same between machines: a GPU multiplies with 10 bits of fraction, and bfloat16 has 7."""


def probe_images(image_shape: ImageShape) -> Floats:
    """Returns four images of noise, from black to full brightness: float32 0..255 [4, height, width, channels]."""
    noise = np.random.default_rng(0).integers(0, 256, (len(_BRIGHTNESS), *image_shape))
    return np.asarray(noise * np.reshape(_BRIGHTNESS, (-1, 1, 1, 1)), np.float32)


def probe_outputs(model: keras.Model, image_shape: ImageShape) -> list[list[float]] | None:
    """Returns a model's outputs for `probe_images`, at most 16 of each image; None if one of them is not finite."""
    outputs = predict(model, probe_images(image_shape))[:, :_MOST_OUTPUTS]
    return outputs.tolist() if np.isfinite(outputs).all() else None


def find_difference(outputs: npt.ArrayLike, expected: npt.ArrayLike, tolerance: float) -> float | None:
    """Returns the largest difference between the outputs of two models; None if they are the same up to rounding.

    >>> find_difference([[0.25, 0.75]], [[0.251, 0.749]], OTHER_MACHINE)
    >>> find_difference([[0.25, 0.75]], [[0.75, 0.25]], OTHER_MACHINE)
    0.5
    """
    ours, theirs = np.asarray(outputs, np.float64), np.asarray(expected, np.float64)
    if ours.shape != theirs.shape:
        return math.inf
    # A model may give infinity, or the difference of two, for a black image.
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        differences = np.nan_to_num(np.abs(ours - theirs), nan=math.inf, posinf=math.inf)
    difference = float(np.max(differences, where=~same, initial=0.0))
    allowed = tolerance * float(np.max(np.abs(theirs), where=np.isfinite(theirs), initial=1.0))
    return None if difference <= allowed else difference


def predict(model: keras.Model, inputs: Floats) -> Floats:
    """Returns a model's outputs for a few inputs, as float32."""
    import keras

    outputs: Floats = keras.ops.convert_to_numpy(keras.ops.cast(model(inputs, training=False), "float32"))
    return outputs
