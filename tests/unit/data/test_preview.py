"""The preview shows the images as they are."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from matplotlib.image import imread

from cnnlib.data.preview import PREVIEW_ROWS, preview_png

NAMES = ("Coat", "Bag", "a name of $1 that is longer than its image")


def flat_images(rows: int, channels: int, value: int = 128) -> np.ndarray:
    return np.full((rows, 8, 8, channels), value, np.uint8)


def top_left_pixel(png: bytes) -> list[int]:
    """The colour in the middle of the first of the 5x5 images."""
    pixels = np.round(imread(io.BytesIO(png))[..., :3] * 255).astype(int)
    return pixels[100, 100].tolist()


@pytest.mark.parametrize("rows", [0, 3, PREVIEW_ROWS + 5])
def test_preview_is_a_png_of_one_size_for_any_number_of_images(rows: int) -> None:
    png = preview_png(flat_images(rows, 1), np.arange(rows) % 3, NAMES)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (900, 1020)


def test_grey_level_is_shown_as_it_is_stored() -> None:
    assert top_left_pixel(preview_png(flat_images(25, 1, 40), [0] * 25, NAMES)) == [40, 40, 40]


def test_colours_are_shown_as_they_are_stored() -> None:
    images = flat_images(25, 3)
    images[:] = (200, 30, 90)
    assert top_left_pixel(preview_png(images, [0] * 25, NAMES)) == [200, 30, 90]


def test_same_images_give_the_same_picture() -> None:
    images = flat_images(25, 1)
    assert preview_png(images, [0] * 25, NAMES) == preview_png(images, [0] * 25, NAMES)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 2), (2, 8, 8, 4)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images must be"):
        preview_png(np.zeros(shape, np.uint8), [0, 0], NAMES)
