"""What every predictor must know before it can slice alike: where quantiles end, and what the training images are.

Found once, before anything is scored, from the data set alone: the number of workers changes nothing. Where quantiles
end is found on a sample of whole shards, evenly spaced: all of the split up to 100,000 rows and 256 MiB of pixels. So
the quantiles of a bigger split are of equal size but for the chance of the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.manifest import Manifest, Shard, Split, read_shard
from cnnlib.dataset.metadata import NEAR_DUPLICATE
from cnnlib.dataset.record import Rows, decode_shard, table_to_rows
from cnnlib.errors import ConfigError
from cnnlib.slices.duplicates import NearDuplicates, hash_images
from cnnlib.slices.properties import PROPERTIES, measure
from cnnlib.slices.slicer import Group, Slicer, check_count, metadata_column, numbers, parse_slices
from cnnlib.storage.threads import DECODE_THREADS, map_threads

TRAIN_SPLIT = "train"
"""The split that near-duplicates are looked for in."""
SAMPLE_ROWS = 100_000
SAMPLE_BYTES = 256 * 2**20
MAX_NUMBERS = 20
"""A column of numbers with more different ones is cut into quantiles, another by value."""

MAX_COUNTS = 2**27
"""Every slice has a confusion matrix: this many cells, 1 GiB, may be counted at a time."""

_T = TypeVar("_T")


def check_slices(asked: Sequence[str], manifest: Manifest, split_name: str) -> tuple[Group, ...]:
    """What `--slice-by` asks for, as far as the manifest tells whether it can be had.

    Raises:
        ConfigError: a name that the data set does not have, or near-duplicates where there are no training images, or
            where these are scored themselves.
    """
    groups = parse_slices(asked, manifest.metadata)
    if any(NEAR_DUPLICATE in group for group in groups):
        if TRAIN_SPLIT not in manifest.splits:
            raise ConfigError(
                f"slice_by {NEAR_DUPLICATE} looks for the images in the split {TRAIN_SPLIT!r}. Received a data set "
                f"with the splits {', '.join(manifest.splits)}. Leave it out."
            )
        if split_name == TRAIN_SPLIT:
            raise ConfigError(
                f"slice_by {NEAR_DUPLICATE} tells which images are like those of the split {TRAIN_SPLIT!r}. "
                f"Received split={split_name!r}, all of whose images are. Leave it out, or score another split."
            )
    return groups


def plan_slicer(
    asked: Sequence[str], quantiles: int, dataset_uri: str, manifest: Manifest, split_name: str
) -> Slicer:
    """Reads what the slices need: a sample of the split, and for near-duplicates all training images.

    Args:
        asked: dimensions, or two joined by +.
        quantiles: how many parts of equal size a property or a column of numbers is cut into. Where many rows share
            a value there are fewer, never an empty one.

    Raises:
        ConfigError: see `check_slices`, or too many slices.
        DatasetError: a shard is missing or not what the manifest states.
    """
    groups = check_slices(asked, manifest, split_name)
    names = list(dict.fromkeys(name for group in groups for name in group))
    sampled = [name for name in names if name != NEAR_DUPLICATE]
    edges, counts = _cut(sampled, quantiles, dataset_uri, manifest, manifest.split(split_name))
    counts[NEAR_DUPLICATE] = 2
    for group in groups:
        check_count(group, math.prod(counts[name] for name in group))
    _check_memory(sum(math.prod(counts[name] for name in group) for group in groups), manifest.num_classes)
    train = _load_train(dataset_uri, manifest) if NEAR_DUPLICATE in names else None
    return Slicer(groups=groups, edges=edges, train=train)


def sample_shards(split: Split, row_bytes: int) -> tuple[Shard, ...]:
    """Evenly spaced shards of a split: all, or about SAMPLE_ROWS and SAMPLE_BYTES of them, one at least.

    Args:
        row_bytes: bytes of an image's pixels.
    """
    fraction = min(1.0, SAMPLE_ROWS / split.rows, SAMPLE_BYTES / (split.rows * row_bytes))
    number = len(split.shards)
    count = max(1, math.floor(fraction * number))
    return tuple(split.shards[(2 * index + 1) * number // (2 * count)] for index in range(count))


def quantile_edges(values: npt.NDArray[np.floating], quantiles: int) -> tuple[float, ...]:
    """The greatest value of every quantile but the last; NaN counts as no value.

    An edge is one of the values (the inverse of the empirical distribution: Hyndman and Fan 1996, definition 1), so
    that no quantile is empty: equal edges are one, and an edge that is the greatest value is none.

    >>> quantile_edges(np.array([1.0, 2, 3, 4, 5, 6, 7, 8]), 4)
    (2.0, 4.0, 6.0)
    >>> quantile_edges(np.array([0.0, 0, 0, 0, 0, 7]), 4)
    (0.0,)
    """
    ordered = np.sort(values[~np.isnan(values)].astype(np.float64))
    if not len(ordered):
        return ()
    positions = [-(-len(ordered) * part // quantiles) - 1 for part in range(1, quantiles)]
    edges = np.unique(ordered[np.maximum(positions, 0)])
    return tuple(edges[edges < ordered[-1]].tolist())


def _cut(
    names: Sequence[str], quantiles: int, dataset_uri: str, manifest: Manifest, split: Split
) -> tuple[dict[str, tuple[float, ...]], dict[str, int]]:
    """Edges of the dimensions that are cut into quantiles, and how many slices each dimension makes."""
    if not names:
        return {}, {}
    shards = sample_shards(split, math.prod(manifest.image_shape))
    parts = list(
        _map_shards(lambda rows: _values(names, rows, manifest.metadata), dataset_uri, manifest, shards)
    )
    edges, counts = {}, {}
    for name in names:
        values = pa.concat_arrays([part[name] for part in parts])
        distinct = values.unique()
        number = name in PROPERTIES or manifest.metadata[name] in ("int64", "float64")
        if name in PROPERTIES or (number and len(distinct) > MAX_NUMBERS):
            edges[name] = quantile_edges(numbers(values), quantiles)
            counts[name] = len(edges[name]) + 1
        else:
            counts[name] = len(distinct)
    return edges, counts


def _values(names: Sequence[str], rows: Rows, columns: Mapping[str, str]) -> dict[str, pa.Array]:
    """What the quantiles of some dimensions are found on: of texts and the like only the different ones."""
    values = {}
    for name in names:
        if name in PROPERTIES:
            values[name] = pa.array(measure(name, rows.images))
        else:
            column = metadata_column(rows, name)
            values[name] = column if columns[name] in ("int64", "float64") else column.unique()
    return values


def _check_memory(slices: int, num_classes: int) -> None:
    if slices * num_classes**2 > MAX_COUNTS:
        raise ConfigError(
            f"slice_by makes too many slices for so many classes. Received {slices} slices of {num_classes} classes, "
            f"expected at most {MAX_COUNTS // num_classes**2}: each has a confusion matrix. Ask for fewer at a time."
        )


def _load_train(dataset_uri: str, manifest: Manifest) -> NearDuplicates:
    shards = manifest.split(TRAIN_SPLIT).shards
    hashes = _map_shards(lambda rows: hash_images(rows.images), dataset_uri, manifest, shards)
    return NearDuplicates(np.concatenate(list(hashes)))


def _map_shards(
    work: Callable[[Rows], _T], dataset_uri: str, manifest: Manifest, shards: Sequence[Shard]
) -> list[_T]:
    """What some work makes of the rows of every shard, in order; a few shards are in memory at a time."""

    def read(shard: Shard) -> _T:
        table = decode_shard(read_shard(dataset_uri, shard), shard.name)
        return work(table_to_rows(table, manifest.image_shape))

    return map_threads(read, shards, threads=DECODE_THREADS)
