"""Writes small image files of many kinds, for tests of sources."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def noise(height: int, width: int, channels: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Returns random pixels, uint8 [height, width, channels]; without the last axis for one channel."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def encode(picture: Image.Image | npt.NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """Returns the bytes of an image file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_folders(
    base: Path, rows: int = 12, side: int = 8, classes: tuple[str, ...] = ("cat", "dog")
) -> Path:
    """Writes a folder per class with so many grey PNGs each; class i is brighter than class i - 1."""
    step = 200 // len(classes)
    for label, name in enumerate(classes):
        (base / name).mkdir(parents=True, exist_ok=True)
        for row in range(rows):
            pixels = noise(side, side, 1, seed=1000 * label + row) // 8 + label * step
            (base / name / f"{row:03d}.png").write_bytes(encode(pixels.astype(np.uint8)))
    return base
