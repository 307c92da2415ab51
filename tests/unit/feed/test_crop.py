"""Random crops: a pure function of seed, epoch and row, of images as files or as pixels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnlib.dataset.decode import ImageRules, decode_crop, decode_image
from cnnlib.dataset.encoding import ImageEncoding
from cnnlib.feed.crop import choose_crop, crop_file, crop_pixels
from tests.image_files import encode, noise

PNG = ImageEncoding(format="png", rules=ImageRules(size=(32, 24)))
DRAW = {"min_area": 0.2, "seed": 3, "epoch": 4}


def ramp(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Returns an image whose red grows to the right and whose green grows downwards, uint8 [height, width, 3]."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // width, rows * 255 // height, 0 * rows], axis=-1).astype(np.uint8)


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    min_area=st.floats(0.01, 1.0),
    row=st.integers(0, 2**63 - 1),
)
def test_a_crop_lies_in_the_image_and_is_not_smaller_than_asked(
    height: int, width: int, min_area: float, row: int
) -> None:
    left, top, right, bottom = choose_crop(height, width, min_area=min_area, seed=0, epoch=1, row_id=row)
    assert 0 <= left < right <= width * (1 + 1e-12)
    assert 0 <= top < bottom <= height * (1 + 1e-12)
    assert (right - left) * (bottom - top) >= min_area * width * height * (1 - 1e-9)
    shape = (right - left) / (bottom - top) * height / width
    assert 3 / 4 - 1e-9 <= shape <= 4 / 3 + 1e-9


def test_areas_and_places_are_spread_evenly() -> None:
    boxes = np.array(
        [choose_crop(100, 200, min_area=0.1, seed=1, epoch=1, row_id=row) for row in range(4000)]
    )
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 20_000
    small = areas[areas < 0.7]  # these fit at the first draw, so they are uniform in 0.1..0.7
    assert abs(small.mean() - 0.4) < 4 * 0.6 / math.sqrt(12 * len(small))
    middle = boxes[:, [0, 1]] + boxes[:, [2, 3]]
    np.testing.assert_allclose(middle.mean(axis=0), [200, 100], rtol=0.03)


def test_every_seed_epoch_and_row_has_a_crop_of_its_own() -> None:
    boxes = {
        choose_crop(50, 50, min_area=0.1, seed=seed, epoch=epoch, row_id=row)
        for seed in range(3)
        for epoch in range(1, 4)
        for row in range(3)
    }
    assert len(boxes) == 27


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_cropped_file_shows_the_part_of_the_upright_image(kind: str, orientation: int) -> None:
    upright = ramp(400, 300)
    turned = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(np.ascontiguousarray(turned), kind, exif=exif)
    np.testing.assert_allclose(decode_image(data, ImageRules()), upright, atol=8)
    box = (75.0, 100.0, 225.0, 300.0)
    seen: list[tuple[int, int]] = []

    def choose(height: int, width: int) -> tuple[float, float, float, float]:
        seen.append((height, width))
        return box

    part = decode_crop(data, PNG.rules, (32, 24), choose).astype(int)
    assert seen == [(400, 300)]
    assert part.shape == (32, 24, 3)
    # Red runs from 75/300 to 225/300 of 255, green from 100/400 to 300/400.
    expected = 255 * (0.25 + 0.5 * (np.arange(24) + 0.5) / 24)
    np.testing.assert_allclose(part[:, :, 0].mean(axis=0), expected, atol=4)
    np.testing.assert_allclose(
        part[:, :, 1].mean(axis=1), 255 * (0.25 + 0.5 * (np.arange(32) + 0.5) / 32), atol=4
    )


def test_the_same_draw_gives_the_same_pixels_and_another_epoch_others() -> None:
    data = encode(noise(64, 48, 3), "PNG")
    first = crop_file(data, PNG, (32, 24, 3), row_id=7, **DRAW)  # type: ignore[arg-type]
    again = crop_file(data, PNG, (32, 24, 3), row_id=7, **DRAW)  # type: ignore[arg-type]
    other = crop_file(data, PNG, (32, 24, 3), row_id=7, **{**DRAW, "epoch": 5})  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_are_cropped_as_the_file_of_the_same_image(channels: int) -> None:
    image = noise(20, 30, channels).reshape(20, 30, channels)
    part = crop_pixels(image, row_id=7, **DRAW)  # type: ignore[arg-type]
    assert part.shape == image.shape
    if channels == 3:
        as_file = ImageEncoding(format="png", rules=ImageRules(size=(20, 30)))
        expected = crop_file(encode(image, "PNG"), as_file, (20, 30, 3), row_id=7, **DRAW)  # type: ignore[arg-type]
        np.testing.assert_array_equal(part, expected)
