"""Row ids in, small pictures for a page out: pixels from the dataset's shards, as PNG in data URIs."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from cnnlib.dataset.manifest import Manifest, Shard, Split, load_manifest, shard_ranges
from cnnlib.dataset.reader import read_shard
from cnnlib.dataset.record import ID, decode_shard, images_to_numpy
from cnnlib.errors import CnnlibError
from cnnlib.shapes import ImageShape

MAX_SIDE = 64
"""Images with a longer side are scaled down to this many pixels."""
MAX_SHEET_BYTES = 2**20 + 2**18
"""Bytes of a sheet's pixels. PNG and base64 add at most a third, so a page stays under 3 MB."""
MAX_READ_BYTES = 256 * 2**20
"""Shards are read, those with most of the rows first, until they have this many bytes together."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class RowImages:
    """The images of some rows.

    Attributes:
        by_id: uint8 [height, width, 1 or 3], by the row's id.
        missing: a sentence that says why images are missing; empty if none is.
    """

    by_id: Mapping[int, Pixels]
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Many images of one size in one picture (a sprite sheet), in rows from the top left.

    Attributes:
        uri: the picture as a data URI.
        columns: number of images in a row.
        width: of one image, in pixels.
        height: of one image, in pixels.
        places: by the row's id, the place of its image from 0, row by row.
    """

    uri: str
    columns: int
    width: int
    height: int
    places: Mapping[int, int]


def read_images(dataset_uri: str, fingerprint: str, split_name: str, ids: Collection[int]) -> RowImages:
    """Reads the images of some rows, scaled down for a page. Returns the reason for missing ones, instead of raising.

    Args:
        dataset_uri: the dataset's folder at the time of the evaluation.
        fingerprint: the dataset's fingerprint then; a dataset with another one has other rows.
        ids: of rows of the split.
    """
    try:
        manifest = load_manifest(dataset_uri)
        if manifest.fingerprint != fingerprint:
            return RowImages(
                by_id={}, missing=f"The dataset at {dataset_uri} has changed since the evaluation."
            )
        return _read_rows(dataset_uri, manifest, manifest.split(split_name), set(ids))
    except CnnlibError as err:
        return RowImages(by_id={}, missing=str(err))


def png_uri(pixels: Pixels) -> str:
    """Encodes uint8 [height, width, 1, 3 or 4] as a PNG in a data URI."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def build_sheet(images: Mapping[int, Pixels]) -> Sheet:
    """Packs images of one shape, at least one, into a roughly square picture of at most `MAX_SHEET_BYTES`."""
    height, width, channels = next(iter(images.values())).shape
    shown = dict(itertools.islice(images.items(), MAX_SHEET_BYTES // (height * width * channels)))
    pixels = list(shown.values())
    columns = math.ceil(math.sqrt(len(pixels) * height / width))
    rows = math.ceil(len(pixels) / columns)
    canvas = np.zeros((rows * height, columns * width, channels), np.uint8)
    for place, each in enumerate(pixels):
        top, left = place // columns * height, place % columns * width
        canvas[top : top + height, left : left + width] = each
    return Sheet(
        uri=png_uri(canvas),
        columns=columns,
        width=width,
        height=height,
        places={row_id: place for place, row_id in enumerate(shown)},
    )


def shrink(pixels: Pixels) -> Pixels:
    """Converts an image to grey or RGB and scales its longer side to at most `MAX_SIDE`."""
    # The first of two channels, the first three of four or more, as in the dataset's preview.
    shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
    height, width = shown.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return shown
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else np.ascontiguousarray(shown))
    small = np.asarray(picture.resize(size, Image.Resampling.BOX))
    return small.reshape(*small.shape[:2], -1)


def _read_rows(dataset_uri: str, manifest: Manifest, split: Split, wanted: set[int]) -> RowImages:
    found: dict[int, Pixels] = {}
    budget = MAX_READ_BYTES
    for shard in _by_wanted_rows(split, wanted):
        budget -= shard.bytes
        if len(found) == len(wanted) or (budget < 0 and found):
            break
        found |= _read_shard_images(dataset_uri, shard, wanted, manifest.image_shape)
    left = len(wanted) - len(found)
    missing = f"{left:,} images are left out: their shards are too large to read for a page." if left else ""
    return RowImages(by_id=found, missing=missing)


def _by_wanted_rows(split: Split, wanted: set[int]) -> Sequence[Shard]:
    """Sorts the shards, those with most of the wanted rows first."""
    # In a dataset of arrays, a row's id is its position in the split. In others it tells nothing, so the shards are
    # read in their order.
    counts = {shard.name: 0 for shard in split.shards}
    for row_id in wanted:
        for part in shard_ranges(split.shards, row_id, row_id + 1):
            counts[part.shard.name] += 1
    return sorted(split.shards, key=lambda shard: -counts[shard.name])


def _read_shard_images(
    dataset_uri: str, shard: Shard, wanted: set[int], image_shape: ImageShape
) -> dict[int, Pixels]:
    table = decode_shard(read_shard(dataset_uri, shard), shard.name)
    rows = table.filter(pc.is_in(table[ID], pa.array(sorted(wanted), pa.int64())))
    if not len(rows):
        return {}
    images = images_to_numpy(rows["image"], image_shape)
    return {row_id: shrink(image) for row_id, image in zip(rows[ID].to_pylist(), images, strict=True)}
