"""Row ids in, small pictures for a page out: pixels from the dataset's shards, as PNG or WebP in data URIs."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from cnnlib.dataset.manifest import Manifest, Shard, Split, load_manifest
from cnnlib.dataset.reader import read_shard
from cnnlib.dataset.record import ID, IMAGE, decode_shard, images_to_numpy
from cnnlib.errors import CnnlibError
from cnnlib.shapes import ImageShape

PIXEL_SIDE = 64
"""Images up to this size are shown pixel by pixel. Those with a longer side are photographs: WebP, scaled down."""
PHOTO_SIDE = 128
"""The longer side of a photograph on a page, in pixels; the shorter one keeps the shape."""
MAX_SHEET_BYTES = 2**20 + 2**18
"""Bytes of a sheet. PNG and base64 add at most a third, so a page stays under 3 MB."""
MAX_READ_BYTES = 2**30
"""Shards are read, those with the most important rows first, until they have this many bytes together."""
PHOTO_QUALITY = 75
"""Quality of photographs as WebP, 0..100."""

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
        is_photo: whether they are photographs, which a browser may scale smoothly.
        places: by the row's id, the place of its image from 0, row by row.
    """

    uri: str
    columns: int
    width: int
    height: int
    is_photo: bool
    places: Mapping[int, int]


def read_images(
    dataset_uri: str, fingerprint: str, split_name: str, shard_of: Mapping[int, int]
) -> RowImages:
    """Reads the images of some rows, scaled down for a page. Returns the reason for missing ones, instead of raising.

    Args:
        dataset_uri: the dataset's folder at the time of the evaluation.
        fingerprint: the dataset's fingerprint then; a dataset with another one has other rows.
        shard_of: the index of each row's shard in the split, by the row's id, the most important row first.
    """
    try:
        manifest = load_manifest(dataset_uri)
        if manifest.fingerprint != fingerprint:
            return RowImages(
                by_id={}, missing=f"The dataset at {dataset_uri} has changed since the evaluation."
            )
        return _read_rows(dataset_uri, manifest, manifest.split(split_name), shard_of)
    except CnnlibError as err:
        return RowImages(by_id={}, missing=str(err))


def picture_uri(pixels: Pixels, quality: int | None = None) -> str:
    """Encodes uint8 [height, width, 1, 3 or 4] in a data URI.

    Args:
        quality: of a WebP with losses, 0..100; None: a PNG.
    """
    return _data_uri(_encode(pixels, quality), is_webp=quality is not None)


def is_photo(pixels: Pixels) -> bool:
    """Returns whether an image that `shrink` returned is shown as a photograph."""
    height, width = pixels.shape[:2]
    return bool(max(height, width) > PIXEL_SIDE)


def build_sheet(images: Mapping[int, Pixels], max_bytes: int = MAX_SHEET_BYTES) -> Sheet:
    """Packs images of one shape, at least one, into a roughly square picture of at most `max_bytes`, the first ones."""
    first = next(iter(images.values()))
    height, width, channels = first.shape
    count, photos = len(images), is_photo(first)
    if not photos:  # PNG needs at most the bytes of the pixels
        count = min(count, max(1, max_bytes // (height * width * channels)))
    while True:
        shown = dict(itertools.islice(images.items(), count))
        columns = math.ceil(math.sqrt(count * height / width))
        data = _encode(_arrange(list(shown.values()), columns), PHOTO_QUALITY if photos else None)
        if not photos or count == 1 or len(data) <= max_bytes:
            break
        count = max(1, int(0.95 * count * max_bytes / len(data)))
    return Sheet(
        uri=_data_uri(data, is_webp=photos),
        columns=columns,
        width=width,
        height=height,
        is_photo=photos,
        places={row_id: place for place, row_id in enumerate(shown)},
    )


def shrink(pixels: Pixels) -> Pixels:
    """Converts an image to grey or RGB; one with a side above `PIXEL_SIDE` is scaled to at most `PHOTO_SIDE`."""
    # The first of two channels, the first three of four or more, as in the dataset's preview.
    shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
    height, width = shown.shape[:2]
    scale = PHOTO_SIDE / max(height, width)
    if scale >= 1:
        return np.array(shown)  # a copy: a view would keep the whole shard in memory
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else np.ascontiguousarray(shown))
    small = np.asarray(picture.resize(size, Image.Resampling.BOX))
    return small.reshape(*small.shape[:2], -1)


def _arrange(images: Sequence[Pixels], columns: int) -> Pixels:
    height, width, channels = images[0].shape
    canvas = np.zeros((math.ceil(len(images) / columns) * height, columns * width, channels), np.uint8)
    for place, each in enumerate(images):
        top, left = place // columns * height, place % columns * width
        canvas[top : top + height, left : left + width] = each
    return canvas


def _encode(pixels: Pixels, quality: int | None) -> bytes:
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    if quality is not None:
        picture.save(buffer, "WEBP", quality=quality, method=2)
    else:
        picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _data_uri(data: bytes, *, is_webp: bool) -> str:
    return f"data:image/{'webp' if is_webp else 'png'};base64," + base64.b64encode(data).decode()


def _read_rows(dataset_uri: str, manifest: Manifest, split: Split, shard_of: Mapping[int, int]) -> RowImages:
    found: dict[int, Pixels] = {}
    budget = MAX_READ_BYTES
    for index, ids in _by_importance(shard_of):
        shard = split.shards[index]
        budget -= shard.bytes
        if budget < 0 and found:
            break
        found |= _read_shard_images(dataset_uri, shard, ids, manifest.image_shape)
    left = len(shard_of) - len(found)
    missing = f"{left:,} images are left out: their shards are too large to read for a page." if left else ""
    return RowImages(by_id=found, missing=missing)


def _by_importance(shard_of: Mapping[int, int]) -> list[tuple[int, list[int]]]:
    """Returns the shards with their wanted rows, the most important first: row k of all counts 1 / (k + 1).

    The rows of a shuffled dataset lie anywhere, so one shard may hold none of the rows that a page shows first.

    >>> _by_importance({70: 3, 71: 5, 72: 5, 73: 5})
    [(5, [71, 72, 73]), (3, [70])]
    """
    weights: dict[int, float] = defaultdict(float)
    ids: dict[int, list[int]] = defaultdict(list)
    for place, (row_id, shard) in enumerate(shard_of.items()):
        weights[shard] += 1 / (place + 1)
        ids[shard].append(row_id)
    return [(shard, ids[shard]) for shard in sorted(ids, key=lambda shard: (-weights[shard], shard))]


def _read_shard_images(
    dataset_uri: str, shard: Shard, wanted: Collection[int], image_shape: ImageShape
) -> dict[int, Pixels]:
    table = decode_shard(read_shard(dataset_uri, shard), shard.name)
    rows = table.filter(pc.is_in(table[ID], pa.array(sorted(wanted), pa.int64())))
    # One at a time: a decoded photograph may take 27 MB.
    return {
        row_id: shrink(images_to_numpy(rows[IMAGE].slice(place, 1), image_shape)[0])
        for place, row_id in enumerate(rows[ID].to_pylist())
    }
