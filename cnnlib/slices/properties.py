"""Measures image properties: the brightness, contrast, sharpness or object size of each image, as one number.

The number depends on its image alone, to the last bit, whichever images are measured with it: all sums are of integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]

BACKGROUND_TOLERANCE = 25
"""A pixel that differs from the background by at most this many of 255 grey levels, a tenth, belongs to it."""

_WHITE = 255
_VALUES_AT_A_TIME = 2**22  # pixel values that are measured at a time: some 100 MiB of intermediate arrays


def measure(name: str, images: Images) -> npt.NDArray[np.float32]:
    """Measures a property of every image.

    Args:
        name: one of PROPERTIES.
        images: uint8 [rows, height, width, channels].

    Returns:
        float32 [rows].

    >>> measure("brightness", np.full((1, 2, 2, 1), 51, np.uint8)).tolist()
    [0.20000000298023224]
    """
    rows_at_a_time = max(1, _VALUES_AT_A_TIME // max(1, math.prod(images.shape[1:])))
    values = [
        PROPERTIES[name](images[first : first + rows_at_a_time])
        for first in range(0, len(images), rows_at_a_time)
    ]
    return np.concatenate([np.empty(0), *values]).astype(np.float32)


def _brightness(images: Images) -> Values:
    """Returns the mean of all pixels, 0..1."""
    values = _flat(images)
    brightness: Values = values.sum(axis=1, dtype=np.int64) / (values.shape[1] * _WHITE)
    return brightness


def _contrast(images: Images) -> Values:
    """Returns the standard deviation of all pixels, 0..0.5 (the RMS contrast: Peli 1990, equation 3)."""
    contrast: Values = np.sqrt(_variance(_flat(images))) / _WHITE
    return contrast


def _sharpness(images: Images) -> Values:
    """Returns the variance of the Laplacian of the grey image, pixels as 0..1 (Pech-Pacheco et al. 2000, section 2).

    The Laplacian is the sum of a pixel's four neighbours minus four times the pixel, for every pixel inside the border.
    An image without such a pixel (height or width below 3) has 0.
    """
    height, width, channels = images.shape[1:]
    if height < 3 or width < 3:
        return np.zeros(len(images))
    grey = images.sum(axis=3, dtype=np.int32)
    inside = grey[:, 1:-1, 1:-1]
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    sharpness: Values = _variance(_flat(neighbours - 4 * inside)) / (channels * _WHITE) ** 2
    return sharpness


def _size(images: Images) -> Values:
    """Returns the fraction of the image inside the bounding box of its object, 0..1.

    The background is the median of the border's pixels, channel by channel. The object is every pixel that differs
    from it by more than BACKGROUND_TOLERANCE in some channel. An image that is all background has 0.
    """
    height, width = images.shape[1:3]
    border = np.concatenate(
        [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1
    )  # [rows, pixels, channels]
    background = np.median(border, axis=1).astype(np.int16)[:, np.newaxis, np.newaxis]
    object_ = (np.abs(images.astype(np.int16) - background) > BACKGROUND_TOLERANCE).any(axis=3)
    size: Values = _extent(object_.any(axis=2)) * _extent(object_.any(axis=1)) / (height * width)
    return size


def _variance(values: npt.NDArray[np.integer]) -> Values:
    """Returns the variance of every row of integers [rows, values]."""
    integers = values.astype(np.int64)
    count = integers.shape[1]
    variance: Values = np.square(integers).sum(axis=1) / count - (integers.sum(axis=1) / count) ** 2
    return np.maximum(variance, 0)  # rounding may make the difference negative


def _extent(present: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Returns the length from the first to the last True of every row, 0 where there is none."""
    length = present.shape[1]
    extent: npt.NDArray[np.int64] = length - present.argmax(axis=1) - present[:, ::-1].argmax(axis=1)
    extent[~present.any(axis=1)] = 0
    return extent


def _flat(images: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    return images.reshape(len(images), -1)


PROPERTIES: Mapping[str, Callable[[Images], Values]] = MappingProxyType(
    {"brightness": _brightness, "contrast": _contrast, "sharpness": _sharpness, "size": _size}
)
"""The properties by name: functions of images, uint8 [rows, height, width, channels], that return values [rows]."""
