"""The first images of a dataset in, one picture out: a grid with a class name under each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

_GRID = 5
_MAX_NAME = 18
PREVIEW_ROWS = _GRID * _GRID
"""How many rows the picture shows."""


def preview_png(
    images: NDArray[np.uint8], labels: Sequence[int] | NDArray[Any], class_names: Sequence[str]
) -> bytes:
    """Draws up to 25 images in a 5x5 grid, class names under them; 900 x 1020 pixels.

    Args:
        images: uint8 [rows, height, width, channels], 1 channel (grey) or 3 (RGB); the 25 first are drawn.
        labels: integers [rows], indexes into class_names.
        class_names: name of every class.

    Raises:
        ValueError: a number of channels that is no picture.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images must be [rows, height, width, 1 or 3]. Received {list(images.shape)}.")
    figure = Figure(figsize=(6, 6.8), dpi=150)
    FigureCanvasAgg(figure)
    # Fixed margins: an automatic layout would shrink every image to make room for one long name.
    margins = {"left": 0.02, "right": 0.98, "top": 0.98, "bottom": 0.04, "wspace": 0.08, "hspace": 0.24}
    cells = figure.subplots(_GRID, _GRID, gridspec_kw=margins).ravel()
    for cell in cells:
        cell.set_axis_off()
    for cell, image, label in zip(cells, images, labels, strict=False):
        _draw(cell, image, class_names[int(label)])
    buffer = io.BytesIO()
    # Without matplotlib's version in the file, the same images give the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(cell: Axes, image: NDArray[np.uint8], name: str) -> None:
    grey = image.shape[-1] == 1
    # The range is fixed: matplotlib would stretch a dark grey image to full contrast.
    cell.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
    shown = name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
    # A name may hold a dollar sign, which begins a formula elsewhere.
    cell.set_title(shown, y=-0.04, pad=0, va="top", fontsize=8, color="#333333", parse_math=False)
