"""What a layer made of one image, as small pictures: at most so many maps, of at most so many pixels. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Kind = Literal["image", "kernel", "activation"]

MAX_MAPS = 64
MAX_PIXELS = 64
MAX_LAYERS = 16
IMAGE_LAYER = -1


@dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """The pictures of one layer.

    Attributes:
        layer_index: index of the layer in the model, from 0; -1 for the image itself.
        layer: its name, behind those of the models that it is nested in; image for the image itself.
        kind: the image, a kernel (the weights of the first convolution), or an activation (a layer's output).
        maps: float32 [maps, height, width, channels], at most 64 maps of at most 64 x 64.
        total: maps that the layer has.
    """

    layer_index: int
    layer: str
    kind: Kind
    maps: Floats
    total: int


def build_maps(maps: npt.ArrayLike, *, layer_index: int, layer: str, kind: Kind) -> LayerMaps:
    """The first maps of a layer, scaled down where they are large.

    Args:
        maps: numbers [maps, height, width, channels].
        layer_index: see `LayerMaps`.
        layer: see `LayerMaps`.
        kind: see `LayerMaps`.
    """
    values = np.asarray(maps, np.float32)
    small = shrink(values[:MAX_MAPS])
    return LayerMaps(layer_index=layer_index, layer=layer, kind=kind, maps=small, total=len(values))


def shrink(maps: Floats, limit: int = MAX_PIXELS) -> Floats:
    """Maps whose height and width are at most the limit: the means of blocks of pixels, as equal as they can be.

    Args:
        maps: float32 [maps, height, width, channels].
        limit: the most pixels of a side. A side that has fewer is kept, pixel by pixel.

    >>> shrink(np.array([1, 3, 5, 9], np.float32).reshape(1, 1, 4, 1), limit=2).ravel().tolist()
    [2.0, 7.0]
    """
    for axis in (1, 2):
        size = maps.shape[axis]
        if size > limit:
            edges = np.arange(limit) * size // limit
            lengths = np.diff(edges, append=size).reshape([-1 if each == axis else 1 for each in range(4)])
            maps = np.add.reduceat(maps, edges, axis=axis) / lengths.astype(np.float32)
    return maps


def spread(layers: Sequence[int], limit: int = MAX_LAYERS) -> list[int]:
    """At most so many of the layers, spread evenly from the first to the last.

    >>> spread([2, 3, 5, 7, 11], limit=3)
    [2, 5, 11]
    """
    if len(layers) <= limit:
        return list(layers)
    return [layers[round(index * (len(layers) - 1) / (limit - 1))] for index in range(limit)]
