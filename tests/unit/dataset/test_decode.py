"""Every kind of image file becomes the pixels that the rules state, or is refused with a reason."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlib.dataset.decode import ImageRules, decode_image
from cnnlib.dataset.streamed import BadImageError
from cnnlib.errors import ConfigError
from tests.image_files import encode, noise

GREY, COLOUR = ImageRules(channels=1), ImageRules()
RGB = noise(6, 4, 3)


def palette(transparency: int | None = None) -> bytes:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    return encode(picture, **({} if transparency is None else {"transparency": transparency}))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    data = encode(RGB, kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(decode_image(data, COLOUR), RGB)


def test_jpeg_is_what_pillow_decodes() -> None:
    data = encode(RGB, "JPEG")
    np.testing.assert_array_equal(decode_image(data, COLOUR), np.asarray(Image.open(io.BytesIO(data))))


def test_grey_images_have_one_channel_or_three_equal_ones() -> None:
    grey = noise(3, 5, 1)
    np.testing.assert_array_equal(decode_image(encode(grey), GREY)[..., 0], grey)
    np.testing.assert_array_equal(decode_image(encode(grey), COLOUR), np.repeat(grey[..., None], 3, axis=2))


def test_colour_becomes_grey_by_itu_r_601() -> None:
    expected = RGB @ np.array([0.299, 0.587, 0.114])
    assert abs(decode_image(encode(RGB), GREY)[..., 0] - expected).max() <= 1


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "lime")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data, COLOUR)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("background", "expected"), [((255, 255, 255), 255), ((0, 0, 0), 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_the_background(mode: str, background: Any, expected: int) -> None:
    data = encode(Image.new(mode, (2, 2), (7, 7, 7, 0) if mode == "RGBA" else (7, 0)))
    assert decode_image(data, ImageRules(background=background))[0, 0].tolist() == [expected] * 3


def test_half_transparent_pixels_are_mixed() -> None:
    data = encode(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert decode_image(data, COLOUR)[0, 0, 0] == pytest.approx(255 * (1 - 128 / 255), abs=1)


def test_palettes_are_looked_up_and_their_transparent_colour_shows_the_background() -> None:
    assert decode_image(palette(), COLOUR).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert decode_image(palette(transparency=0), COLOUR).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_bits_become_black_and_white() -> None:
    picture = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert decode_image(encode(picture), GREY).ravel().tolist() == [0, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_divided_by_257(kind: str) -> None:
    data = encode(np.array([[0, 257, 32896, 65535]], np.uint16), kind)
    assert decode_image(data, GREY).ravel().tolist() == [0, 1, 128, 255]


def test_cmyk_becomes_rgb() -> None:
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")
    assert decode_image(data, COLOUR)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_exif(orientation: int) -> None:
    upright = noise(4, 6, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(np.ascontiguousarray(stored), exif=exif.tobytes())
    np.testing.assert_array_equal(decode_image(data, COLOUR), upright)


def test_sizes_are_reached_in_three_ways() -> None:
    wide = np.zeros((10, 20, 3), np.uint8)
    wide[:, 5:15] = 200  # the middle square
    data = encode(wide)
    filled, fitted, stretched = (
        decode_image(data, ImageRules(size=(8, 8), resize=resize)) for resize in ("fill", "fit", "stretch")
    )
    assert filled.shape == fitted.shape == stretched.shape == (8, 8, 3)
    assert filled[4, 0, 0] > 150, "the sides are cut off"
    assert fitted[0, 4].tolist() == [255, 255, 255], "background above and below"
    assert fitted[4, 0, 0] < 50
    assert stretched[4, 0, 0] < 50
    assert abs(int(stretched[4, 4, 0]) - 200) < 20


def test_a_large_jpeg_is_decoded_at_reduced_scale_and_differs_by_about_a_grey_level() -> None:
    x, y = np.meshgrid(np.arange(640), np.arange(480))
    smooth = np.stack([x % 256, y % 256, (x + y) % 256], axis=-1)
    large = np.asarray(Image.fromarray(smooth.astype(np.uint8)).resize((1280, 960)))
    data = encode(large, "JPEG", quality=95)
    rules = ImageRules(size=(120, 160))
    whole = Image.open(io.BytesIO(data)).convert("RGB").resize((160, 120), Image.Resampling.BICUBIC)
    difference = np.abs(decode_image(data, rules).astype(int) - np.asarray(whole).astype(int))
    assert difference.mean() < 1.5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>not found</html>", "not an image"),
        (encode(noise(64, 64, 3), "JPEG")[:900], "damaged image"),
        (encode(noise(64, 64, 3))[:-900], "damaged image"),
        (encode(noise(64, 64, 3))[:20], "damaged image"),
        (encode(np.zeros((2, 2), np.float32), "TIFF"), "floating-point pixels"),
        (encode(np.full((2, 2), 70_000, np.int32), "TIFF"), "integer pixels above 65535"),
        (encode(Image.new("1", (20_000, 10_000)), "PNG"), "too many pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_used_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImageError) as raised:
        decode_image(data, COLOUR)
    assert str(raised.value) == reason


def test_damage_of_any_kind_is_a_reason_and_never_another_error() -> None:
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        data = bytearray(encode(noise(16, 16, 3), kind))
        for _ in range(60):
            damaged = data.copy()
            for place in rng.integers(0, len(data), 4):
                damaged[place] = rng.integers(256)
            with suppress(BadImageError):
                assert decode_image(bytes(damaged), ImageRules(size=(8, 8))).shape == (8, 8, 3)


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="size must be 1 to 16,384 pixels"):
        ImageRules(size=(0, 5))
