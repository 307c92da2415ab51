"""Corrupts images on purpose, to measure what accuracy a model keeps.

There are six kinds at five strengths, after ImageNet-C (Hendrycks and Dietterich 2019, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations"). Lengths are relative to the image, so that a strength means the
same at 28x28 as at 4K. Strengths 1..5:

noise      Gaussian, standard deviation 0.08, 0.12, 0.18, 0.26, 0.38 of white (as in ImageNet-C)
blur       Gaussian, standard deviation 0.015, 0.025, 0.035, 0.05, 0.07 of the shorter side
shift      in one of eight directions, by 0.04, 0.08, 0.12, 0.16, 0.2 of a side, in whole pixels, at least 1, 2, 3, 4, 5
rotation   clockwise or counterclockwise, by 6, 12, 18, 24, 30 degrees about the centre
contrast   the distance to the image's mean colour times 0.75, 0.5, 0.4, 0.3, 0.15 (as in CIFAR-10-C)
occlusion  a mid-grey square of 0.2, 0.3, 0.4, 0.5, 0.6 of the shorter side, anywhere inside (Zeiler and Fergus 2014)

A shift and a rotation fill what they uncover with the nearest pixel of the edge. What is random (the noise, the
direction, the place) depends only on the row's id and the kind: it is the same in every batch and for all strengths,
so a greater strength changes the same image more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int64]

STRENGTHS = (1, 2, 3, 4, 5)

_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_BLUR = (0.015, 0.025, 0.035, 0.05, 0.07)
_SHIFT = (0.04, 0.08, 0.12, 0.16, 0.2)
_ROTATION = (6.0, 12.0, 18.0, 24.0, 30.0)
_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
_OCCLUSION = (0.2, 0.3, 0.4, 0.5, 0.6)

_WHITE, _GREY = 255, 127
_DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
_VALUES_AT_A_TIME = 2**22  # pixel values that are corrupted at a time, as float32


def corrupt(images: Images, ids: Ids, kind: str, strength: int) -> Images:
    """Returns corrupted copies of images, in their order.

    Args:
        images: uint8 [rows, height, width, channels].
        ids: int64 [rows], the ids of the rows, from which everything random is drawn.
        kind: one of CORRUPTIONS.
        strength: 1..5.

    Raises:
        ValueError: the strength is not one of STRENGTHS.
    """
    if strength not in STRENGTHS:
        raise ValueError(f"strength must lie in 1..5. Received {strength}.")
    corrupted = np.empty_like(images)
    rows_at_a_time = max(1, _VALUES_AT_A_TIME // max(1, int(np.prod(images.shape[1:]))))
    for first in range(0, len(images), rows_at_a_time):
        some = slice(first, first + rows_at_a_time)
        corrupted[some] = CORRUPTIONS[kind](images[some], ids[some], strength)
    return corrupted


def slice_name(kind: str, strength: int) -> str:
    """Returns the name of the slice that a report has for a corruption.

    >>> slice_name("noise", 3)
    'corruption=noise/3'
    """
    return f"corruption={kind}/{strength}"


def _noise(images: Images, ids: Ids, strength: int) -> Images:
    noisy = images.astype(np.float32)
    scale = _NOISE[strength - 1] * _WHITE
    for image, rng in zip(noisy, _generators(ids, "noise"), strict=True):
        image += scale * rng.standard_normal(image.shape, np.float32)
    return _to_pixels(noisy)


def _blur(images: Images, ids: Ids, strength: int) -> Images:
    from scipy import ndimage

    del ids
    sigma = _BLUR[strength - 1] * min(images.shape[1:3])
    return _to_pixels(
        ndimage.gaussian_filter(images, (0, sigma, sigma, 0), output=np.float32, mode="nearest")
    )


def _shift(images: Images, ids: Ids, strength: int) -> Images:
    down, right = (max(strength, round(_SHIFT[strength - 1] * side)) for side in images.shape[1:3])
    directions = np.array([rng.integers(len(_DIRECTIONS)) for rng in _generators(ids, "shift")])
    shifted = np.empty_like(images)
    for index, (y, x) in enumerate(_DIRECTIONS):
        chosen = directions == index
        shifted[chosen] = _take_shifted(_take_shifted(images[chosen], y * down, axis=1), x * right, axis=2)
    return shifted


def _rotation(images: Images, ids: Ids, strength: int) -> Images:
    from scipy import ndimage

    clockwise = np.array([rng.integers(2) for rng in _generators(ids, "rotation")], bool)
    rotated = np.empty_like(images)
    for chosen, sign in ((clockwise, -1), (~clockwise, 1)):
        turned = ndimage.rotate(
            images[chosen],
            sign * _ROTATION[strength - 1],
            axes=(2, 1),
            reshape=False,
            output=np.float32,
            order=1,
            mode="nearest",
        )
        rotated[chosen] = _to_pixels(turned)
    return rotated


def _contrast(images: Images, ids: Ids, strength: int) -> Images:
    del ids
    # A sum of integers, so that the mean is the same to the last bit in every batch.
    means = images.sum(axis=(1, 2), keepdims=True, dtype=np.int64) / np.prod(images.shape[1:3])
    return _to_pixels((images - means) * _CONTRAST[strength - 1] + means)


def _occlusion(images: Images, ids: Ids, strength: int) -> Images:
    height, width = images.shape[1:3]
    side = max(1, round(_OCCLUSION[strength - 1] * min(height, width)))
    occluded = images.copy()
    for image, rng in zip(occluded, _generators(ids, "occlusion"), strict=True):
        top, left = (rng.random(2) * (height - side + 1, width - side + 1)).astype(int)
        image[top : top + side, left : left + side] = _GREY
    return occluded


def _generators(ids: Ids, kind: str) -> Iterator[np.random.Generator]:
    number = list(CORRUPTIONS).index(kind)
    for row_id in ids.tolist():
        yield np.random.default_rng([row_id % 2**64, number])  # an id may be negative, a seed may not


def _take_shifted(images: Images, by: int, axis: int) -> Images:
    side = images.shape[axis]
    shifted: Images = images.take(np.clip(np.arange(side) - by, 0, side - 1), axis)
    return shifted


def _to_pixels(values: npt.NDArray[np.floating]) -> Images:
    pixels: Images = np.clip(np.rint(values), 0, _WHITE).astype(np.uint8)
    return pixels


CORRUPTIONS: Mapping[str, Callable[[Images, Ids, int], Images]] = MappingProxyType(
    {
        "noise": _noise,
        "blur": _blur,
        "shift": _shift,
        "rotation": _rotation,
        "contrast": _contrast,
        "occlusion": _occlusion,
    }
)
"""The corruptions by name: functions of images, ids and strength. Their order is part of the random seeds."""
