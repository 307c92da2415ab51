"""Random crops of images: a pure function of the seed, the epoch and the row, whoever computes it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.decode import Box, decode_crop, resize_crop
from cnnlib.dataset.encoding import ImageEncoding
from cnnlib.shapes import ImageShape

_TRIES = 10
_LOG_ASPECT = math.log(4 / 3)


def choose_crop(height: int, width: int, *, min_area: float, seed: int, epoch: int, row_id: int) -> Box:
    """Draws a part of an image: left, top, right, bottom in pixels, which need not be whole numbers.

    Its area is uniform in `min_area`..1 of the image's, and the logarithm of its width by its height uniform within
    those of 3/4 and 4/3, times the image's own. Source: Szegedy et al. 2015, "Going Deeper with Convolutions", section
    6. If ten draws do not fit into the image, it is the whole image.

    Args:
        height, width: of the image, in pixels.
        min_area: the smallest part of the image's area, above 0, up to 1.
        seed: the run's seed.
        epoch: the number of the epoch.
        row_id: id of the row.
    """
    rng = np.random.default_rng([seed, epoch, row_id])
    for _ in range(_TRIES):
        area, aspect = rng.uniform(min_area, 1.0), math.exp(rng.uniform(-_LOG_ASPECT, _LOG_ASPECT))
        crop_width, crop_height = width * math.sqrt(area * aspect), height * math.sqrt(area / aspect)
        left, top = rng.uniform(0, 1, 2)
        if crop_width <= width and crop_height <= height:
            left, top = left * (width - crop_width), top * (height - crop_height)
            return left, top, left + crop_width, top + crop_height
    return 0.0, 0.0, float(width), float(height)


def crop_file(
    data: bytes,
    encoding: ImageEncoding,
    image_shape: ImageShape,
    *,
    min_area: float,
    seed: int,
    epoch: int,
    row_id: int,
) -> npt.NDArray[np.uint8]:
    """Decodes a random part of an image file, scaled to the image shape, uint8 [height, width, channels].

    Raises:
        BadImageError: the file is damaged.
    """

    def choose(height: int, width: int) -> Box:
        return choose_crop(height, width, min_area=min_area, seed=seed, epoch=epoch, row_id=row_id)

    return decode_crop(data, encoding.rules, image_shape[:2], choose)


def crop_pixels(
    image: npt.NDArray[np.uint8], *, min_area: float, seed: int, epoch: int, row_id: int
) -> npt.NDArray[np.uint8]:
    """Returns a random part of an image, scaled to the size of the image, uint8 [height, width, channels]."""
    height, width = image.shape[:2]
    box = choose_crop(height, width, min_area=min_area, seed=seed, epoch=epoch, row_id=row_id)
    return resize_crop(image, box)
