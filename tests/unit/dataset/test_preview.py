"""The preview shows pixels and proportions as they are stored, and a class name below each image."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cnnlib.dataset.preview import PREVIEW_ROWS, preview_png

NAMES = ("Coat", "Bag", "a name of $1 that is longer than its image")


def flat_images(rows: int, channels: int, value: int = 128) -> np.ndarray:
    return np.full((rows, 8, 8, channels), value, np.uint8)


def top_left_pixel(png: bytes) -> list[int]:
    """Returns the colour in the middle of the first image of the grid."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[100, 100].tolist()


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


def test_equal_images_of_one_class_are_shown_once() -> None:
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((40, 8, 8, 1), np.uint8)
    few = preview_png(images[[3, 3, 7, 3, 3]], [0, 0, 1, 0, 1], NAMES)
    assert few == preview_png(images[[3, 7, 3]], [0, 1, 1], NAMES)
    places = [0, 0, *range(40)]
    assert preview_png(images[places], [0] * 42, NAMES) == preview_png(images, [0] * 40, NAMES)


def test_same_images_give_the_same_picture() -> None:
    images = flat_images(25, 1)
    assert preview_png(images, [0] * 25, NAMES) == preview_png(images, [0] * 25, NAMES)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 2), (2, 8, 8, 4)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images must be"):
        preview_png(np.zeros(shape, np.uint8), [0, 0], NAMES)


@pytest.mark.parametrize(("height", "width"), [(4, 16), (16, 4), (2, 2000), (2160, 3840)])
def test_image_of_any_shape_keeps_its_proportions(height: int, width: int) -> None:
    png = preview_png(np.full((1, height, width, 1), 50, np.uint8), [0], [""])
    shown = np.asarray(Image.open(io.BytesIO(png)).convert("L")) == 50
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    shown_height, shown_width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert max(shown_height, shown_width) == 168
    assert shown_height == max(1, round(168 * height / max(height, width)))
    assert shown_width == max(1, round(168 * width / max(height, width)))


def test_name_wider_than_its_image_is_cut() -> None:
    images = flat_images(1, 1)
    short, cut = (preview_png(images, [0], [name]) for name in ("Coat\nand Bag", "W" * 400))
    dark = np.asarray(Image.open(io.BytesIO(cut)).convert("L"))[190:] < 200
    assert short != cut
    assert dark.any()
    assert np.flatnonzero(dark.any(axis=0))[-1] < 16 + 168
