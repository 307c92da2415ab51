"""Rows of the table `activations` in, pictures of kernels and of what layers answer out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnlib.views.page import formatting
from cnnlib.views.page.images import Pixels, png_uri

_TILE, _GAP, _COLUMNS = 48, 4, 8


@dataclass(frozen=True, kw_only=True)
class Maps:
    """All stored maps of one layer in one picture.

    Attributes:
        kind: image, kernel or activation.
        title: the layer and the maps' size.
        note: how many of how many are shown.
        uri: the picture, as a data URI.
        width: of the picture, in pixels.
    """

    kind: str
    title: str
    note: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The example, the first kernels and the activation maps, each as there is one."""

    example_id: int
    image: Maps | None
    kernels: Maps | None
    activations: Sequence[Maps]


def build_learned(rows: Sequence[Mapping[str, Any]]) -> Learned | None:
    """Draws the maps of a report; None where it has none."""
    if not rows:
        return None
    keyed = sorted(rows, key=lambda row: (row["layer_index"], row["kind"], row["map"]))
    groups = [list(group) for _, group in groupby(keyed, lambda row: (row["layer_index"], row["kind"]))]
    maps = [_draw(group) for group in groups]
    return Learned(
        example_id=rows[0]["example_id"],
        image=next((each for each in maps if each.kind == "image"), None),
        kernels=next((each for each in maps if each.kind == "kernel"), None),
        activations=[each for each in maps if each.kind == "activation"],
    )


def _draw(rows: Sequence[Mapping[str, Any]]) -> Maps:
    first = rows[0]
    arrays = [
        np.asarray(row["values"], np.float64).reshape(row["height"], row["width"], row["channels"])
        for row in rows
    ]
    pixels = _mosaic([_to_pixels(array, first["kind"]) for array in arrays])
    shown, total = len(rows), first["total"]
    return Maps(
        kind=first["kind"],
        title=f"{first['layer']}, {first['height']} × {first['width']}",
        note=formatting.plural(total, "map")
        if shown == total
        else f"{shown} of {formatting.plural(total, 'map')}",
        uri=png_uri(pixels),
        width=pixels.shape[1],
        height=pixels.shape[0],
    )


def _to_pixels(values: npt.NDArray[np.float64], kind: str) -> Pixels:
    """Values as RGB: a kernel's 0 is mid-grey, positive brighter; an activation's 0 is black, its highest white."""
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
    """Maps side by side, enlarged by whole factors, with transparent gaps: uint8 [height, width, 4]."""
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
