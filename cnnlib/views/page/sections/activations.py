"""Rows of the table `activations` in, pictures of kernels and of activation maps out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnlib.views.page import formatting
from cnnlib.views.page.images import Pixels, picture_uri

_TILE, _GAP, _COLUMNS = 48, 4, 8
_MAX_EXACT = 32  # larger maps of 16 layers would take 4 MB as PNG; as WebP they take a tenth
_QUALITIES = (75, 30, 5)  # of a WebP, the first one with which the pictures fit
MAX_BYTES = 900_000
"""The pictures of a page take at most so many bytes, if the lowest quality can do that."""


@dataclass(frozen=True, kw_only=True)
class MapGrid:
    """The stored maps of one layer, arranged in one picture.

    Attributes:
        kind: image, kernel or activation.
        title: the layer, and the size of a map.
        note: how many maps are shown, of how many.
        uri: the picture, as a data URI.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """

    kind: str
    title: str
    note: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Activations:
    """The example image, the kernels of the first convolution, and the activation maps; None for what is not stored."""

    example_id: int
    image: MapGrid | None
    kernels: MapGrid | None
    layers: Sequence[MapGrid]

    @property
    def num_bytes(self) -> int:
        """The bytes of all pictures on the page."""
        grids = [grid for grid in (self.image, self.kernels, *self.layers) if grid]
        return sum(len(grid.uri) for grid in grids)


def build_activations(rows: Sequence[Mapping[str, Any]]) -> Activations | None:
    """Draws the maps of a report; None without any."""
    if not rows:
        return None
    for quality in _QUALITIES:
        drawn = _draw_all(rows, quality)
        if drawn.num_bytes <= MAX_BYTES:
            break
    return drawn


def _draw_all(rows: Sequence[Mapping[str, Any]], quality: int) -> Activations:
    ordered = sorted(rows, key=lambda row: (row["layer_index"], row["kind"], row["map"]))
    groups = [list(group) for _, group in groupby(ordered, lambda row: (row["layer_index"], row["kind"]))]
    maps = [_draw(group, quality) for group in groups]
    return Activations(
        example_id=rows[0]["example_id"],
        image=next((each for each in maps if each.kind == "image"), None),
        kernels=next((each for each in maps if each.kind == "kernel"), None),
        layers=[each for each in maps if each.kind == "activation"],
    )


def _draw(rows: Sequence[Mapping[str, Any]], quality: int) -> MapGrid:
    first = rows[0]
    arrays = [
        np.asarray(row["values"], np.float64).reshape(row["height"], row["width"], row["channels"])
        for row in rows
    ]
    pixels = _mosaic([_to_pixels(array, first["kind"]) for array in arrays])
    shown, total = len(rows), first["total"]
    of_all = formatting.plural(total, "map")
    return MapGrid(
        kind=first["kind"],
        title=f"{first['layer']}, {first['height']} × {first['width']}",
        note=of_all if shown == total else f"{shown} of {of_all}",
        uri=picture_uri(pixels, quality if max(first["height"], first["width"]) > _MAX_EXACT else None),
        width=pixels.shape[1],
        height=pixels.shape[0],
    )


def _to_pixels(values: npt.NDArray[np.float64], kind: str) -> Pixels:
    """Scales values to RGB: a kernel's 0 becomes mid-grey; an activation's 0 black and its maximum white."""
    shown = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
    largest = float(np.abs(shown).max(initial=0.0)) or 1.0
    if kind == "kernel":
        scaled = 0.5 + 0.5 * shown / largest
    elif kind == "image":
        low = float(shown.min(initial=0.0))  # 0 unless the model's own preparation shifted the pixels
        scaled = (shown - low) / ((float(shown.max(initial=0.0)) - low) or 1.0)
    else:
        scaled = np.maximum(shown, 0) / largest
    grey_or_rgb = np.clip(np.round(255 * scaled), 0, 255).astype(np.uint8)
    return np.broadcast_to(grey_or_rgb, (*values.shape[:2], 3))


def _mosaic(maps: Sequence[Pixels]) -> Pixels:
    """Arranges maps in rows, enlarged by a whole factor, with transparent gaps: uint8 [height, width, 4]."""
    height, width = maps[0].shape[:2]
    factor = max(1, round(_TILE / max(height, width)))
    columns = min(_COLUMNS, len(maps))
    step_y, step_x = height * factor + _GAP, width * factor + _GAP
    canvas = np.zeros((math.ceil(len(maps) / columns) * step_y - _GAP, columns * step_x - _GAP, 4), np.uint8)
    for place, pixels in enumerate(maps):
        top, left = place // columns * step_y, place % columns * step_x
        tile = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = np.dstack(
            [tile, np.full(tile.shape[:2], 255, np.uint8)]
        )
    return canvas
