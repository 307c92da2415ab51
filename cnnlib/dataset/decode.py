"""The bytes of an image file in, pixels out: one set of rules for every format, and a reason for what cannot be read.

orientation  as EXIF says
grey         one channel; three equal ones where three are asked for
colour       to grey by ITU-R 601 (0.299 red, 0.587 green, 0.114 blue) where one channel is asked for
transparent  over the background, white unless another is given; also palettes with a transparent colour
CMYK         to RGB without a colour profile, as Pillow converts it
16 bits      divided by 257, so that 65535 becomes 255
animated     the first frame
refused      floating-point pixels and 32-bit integers above 65535, whose range nobody states; more than 178,956,970
             pixels

A JPEG that is at least four times as large as asked for is decoded at a half, a quarter or an eighth of its size, but
at least twice as large as asked for, and then scaled: that is several times as fast, and differs by about one grey
level.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cnnlib.dataset.streamed import BadImageError
from cnnlib.errors import ConfigError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
)
MAX_PIXELS = 178_956_970
"""Pillow refuses larger images, because a small file may hold very many pixels of one colour."""

MAX_SIDE = 16_384

Resize = Literal["fill", "fit", "stretch"]
Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""A part of an image: left, top, right, bottom, in pixels."""

_16_BIT = 65535
_REDUCED = 2  # a JPEG is decoded at least this many times as large as it is needed
_ANTIALIASED = Image.Resampling.BICUBIC
_CROPPED = Image.Resampling.BILINEAR  # antialiased, too; random crops are scaled anew in every epoch
_ORIENTATION, _LYING = 0x0112, 5  # EXIF: from this value on, height and width change places


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """What every image of a dataset becomes.

    Attributes:
        size: height and width; None: the images keep their size, which must be the same for all.
        resize: fill: scaled until it covers the size, the rest cut off equally on both sides; fit: scaled until it lies
            inside the size, the rest is background; stretch: scaled in both directions on its own.
        channels: 1 for grey, 3 for RGB.
        background: red, green and blue, 0..255.
    """

    size: tuple[int, int] | None = None
    resize: Resize = "fill"
    channels: Literal[1, 3] = 3
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= min(self.size) <= max(self.size) <= MAX_SIDE:
            raise ConfigError(
                f"size must be 1 to {MAX_SIDE:,} pixels. Received {self.size[0]}x{self.size[1]}."
            )


def decode_image(data: bytes, rules: ImageRules) -> Pixels:
    """Decodes an image file, uint8 [height, width, channels].

    Args:
        data: the whole file.
        rules: what the image becomes.

    Raises:
        BadImageError: it is no image, damaged, too large, or of a kind that is refused.
    """
    return _open(data, lambda picture: _convert(picture, rules))


def decode_crop(
    data: bytes, rules: ImageRules, size: tuple[int, int], choose: Callable[[int, int], Box]
) -> Pixels:
    """Decodes a part of an image file and scales it to a size, uint8 [height, width, channels].

    A JPEG is decoded at a half, a quarter or an eighth of its size where the part is still at least as large as asked
    for.

    Args:
        data: the whole file.
        rules: what the image becomes, but for its size.
        size: height and width of the result.
        choose: returns the part for the image's height and width, as it stands upright.

    Raises:
        BadImageError: see `decode_image`.
    """

    def convert(picture: Image.Image) -> Pixels:
        width, height = picture.size
        if picture.getexif().get(_ORIENTATION, 1) >= _LYING:
            width, height = height, width
        left, top, right, bottom = choose(height, width)
        if file_format(picture) == "JPEG":
            factor = max(size[0] / (bottom - top), size[1] / (right - left))
            least = max(1, round(max(picture.size) * factor))
            picture.draft(None, (least, least))
        flat = flatten_image(picture, rules)
        across, down = flat.width / width, flat.height / height
        box = (left * across, top * down, min(right * across, flat.width), min(bottom * down, flat.height))
        scaled = flat.resize((size[1], size[0]), _CROPPED, box)
        return np.asarray(scaled, np.uint8).reshape(*size, rules.channels)

    return _open(data, convert)


def resize_crop(image: Pixels, box: Box) -> Pixels:
    """Scales a part of an image to the image's size, uint8 [height, width, channels]."""
    height, width, channels = image.shape
    scaled = [
        np.asarray(Image.fromarray(image[..., channel]).resize((width, height), _CROPPED, box))
        for channel in range(channels)
    ]
    return np.stack(scaled, axis=-1)


def _open(data: bytes, convert: Callable[[Image.Image], Pixels]) -> Pixels:
    """Opens an image file and converts it; every way in which that may fail is a BadImageError."""
    if not data:
        raise BadImageError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images and odd EXIF data
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                return convert(picture)
    except BadImageError:
        raise
    except Image.DecompressionBombError as err:
        raise BadImageError("too many pixels") from err
    except UnidentifiedImageError as err:
        raise BadImageError("not an image") from err
    # What Pillow raises for damaged files; https://github.com/python-pillow/Pillow documents no common class.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        TypeError,
        struct.error,
        zlib.error,
    ) as err:
        raise BadImageError("damaged image") from err


def file_format(picture: Image.Image) -> str:
    """Returns the format of an opened image file. Phones write JPEG files with a second picture in them (MPO)."""
    return "JPEG" if picture.format == "MPO" else picture.format or ""


def flatten_image(picture: Image.Image, rules: ImageRules) -> Image.Image:
    """Returns an opened image upright, over the background, with the channels of the rules, in its own size.

    Raises:
        BadImageError: its pixels are of a kind that is refused.
    """
    picture.load()
    # Pillow copies the image also where there is nothing to do.
    turned = picture.getexif().get(_ORIENTATION, 1) != 1
    flat = _flatten(ImageOps.exif_transpose(picture) if turned else picture, rules.background)
    mode = "L" if rules.channels == 1 else "RGB"
    return flat if flat.mode == mode else flat.convert(mode)


def _convert(picture: Image.Image, rules: ImageRules) -> Pixels:
    if rules.size is not None and file_format(picture) == "JPEG":
        longest = _REDUCED * max(rules.size)
        picture.draft(None, (longest, longest))
    converted = flatten_image(picture, rules)
    if rules.size is not None:
        converted = _resize(converted, rules)
    return np.asarray(converted, np.uint8).reshape(converted.height, converted.width, rules.channels)


def _flatten(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Returns an image of 8 bits per channel without transparency."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > _16_BIT:
            raise BadImageError("integer pixels above 65535")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if picture.mode == "F":
        raise BadImageError("floating-point pixels")
    if picture.has_transparency_data:
        transparent = picture.convert("RGBA")
        canvas = Image.new("RGBA", transparent.size, (*background, 255))
        return Image.alpha_composite(canvas, transparent).convert("RGB")
    return picture.convert("L") if picture.mode == "1" else picture


def _resize(picture: Image.Image, rules: ImageRules) -> Image.Image:
    assert rules.size is not None
    height, width = rules.size
    if picture.size == (width, height):
        return picture
    if rules.resize == "stretch":
        return picture.resize((width, height), _ANTIALIASED)
    if rules.resize == "fill":
        return ImageOps.fit(picture, (width, height), _ANTIALIASED)
    grey = round(np.dot(rules.background, (0.299, 0.587, 0.114)))
    colour = grey if rules.channels == 1 else rules.background
    return ImageOps.pad(picture, (width, height), _ANTIALIASED, color=colour)
