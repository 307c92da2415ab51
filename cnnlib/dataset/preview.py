"""Draws the preview of a dataset: one PNG with its first images in a grid, and the class name below each image.

It uses Pillow, because importing matplotlib takes longer than writing all shards of Fashion-MNIST.
"""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_GRID = 5
PREVIEW_ROWS = _GRID * _GRID
"""Number of rows that the preview shows."""
PREVIEW_CHOICE = 4 * PREVIEW_ROWS
"""So many rows are enough for the preview to choose from."""

# In pixels.
_SIZE = (900, 1020)
_MARGIN = 16
_PITCH = (175, 198)  # from one image to the next, right and down
_SIDE = 168  # of the square that an image fits into
_FONT_SIZE = 16
_INK = "#333333"


def preview_png(
    images: NDArray[np.uint8], labels: Sequence[int] | NDArray[np.integer], class_names: Sequence[str]
) -> bytes:
    """Draws the first 25 images in a 5x5 grid, their class names below them, as a PNG of 900 x 1020 pixels.

    Equal images of one class are drawn once.

    Args:
        images: uint8 [rows, height, width, channels], with 1 channel (grey) or 3 (RGB).
        labels: integers [rows], indexes into class_names.

    Raises:
        ValueError: the images have another shape.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images must be [rows, height, width, 1 or 3]. Received {list(images.shape)}.")
    page = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(page)
    font = _load_font()
    different = {
        (bytes(image.data), int(label)): (image, label)
        for image, label in zip(np.ascontiguousarray(images), labels, strict=True)
    }
    for index, (image, label) in enumerate(list(different.values())[:PREVIEW_ROWS]):
        row, column = divmod(index, _GRID)
        left, top = _MARGIN + column * _PITCH[0], _MARGIN + row * _PITCH[1]
        picture = _fit(image)
        page.paste(picture, (left + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
        name = _shorten(class_names[int(label)], font)
        draw.text((left + _SIDE // 2, top + _SIDE + 4), name, fill=_INK, font=font, anchor="ma")
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _fit(image: NDArray[np.uint8]) -> Image.Image:
    """Scales an image to its square: pixels are repeated where it grows and averaged where it shrinks."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def _load_font() -> ImageFont.FreeTypeFont:
    """Loads DejaVu Sans from matplotlib's folder, without importing matplotlib."""
    matplotlib = importlib.metadata.distribution("matplotlib")
    return ImageFont.truetype(
        str(matplotlib.locate_file("matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf")), _FONT_SIZE
    )


def _shorten(name: str, font: ImageFont.FreeTypeFont) -> str:
    """Puts the name on one line and cuts it where it is wider than its image."""
    line = " ".join(name.split())
    if font.getlength(line) <= _SIDE:
        return line
    # A letter has at least one pixel: a very long name needs no more tries than the image has pixels.
    cuts = (f"{line[:letters]}…" for letters in range(_SIDE, -1, -1))
    return next(cut for cut in cuts if font.getlength(cut) <= _SIDE)
