"""Draws the sheet of augmented images: one line for each image, one column for each step."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIDE, _GAP = 96, 4  # in pixels


def augmented_png(images: npt.NDArray[np.floating]) -> bytes:
    """Draws images in a grid, as a PNG.

    Args:
        images: [lines, columns, height, width, channels], 0..255, with 1 channel (grey) or 3 (RGB).

    Raises:
        ValueError: the images have another shape.
    """
    if images.ndim != 5 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images must be [lines, columns, height, width, 1 or 3]. Received {list(images.shape)}."
        )
    lines, columns = images.shape[:2]
    pitch = _SIDE + _GAP
    page = Image.new("RGB", (columns * pitch + _GAP, lines * pitch + _GAP), "white")
    pixels = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    for line, column in np.ndindex(lines, columns):
        image = pixels[line, column]
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")
        picture.thumbnail((_SIDE, _SIDE))
        grown = picture.resize(
            (_SIDE * picture.width // max(picture.size), _SIDE * picture.height // max(picture.size))
        )
        page.paste(grown, (_GAP + column * pitch, _GAP + line * pitch))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()
