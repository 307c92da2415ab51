"""Plans the slices: builds the `Slicer` that every predictor uses from `--slice-by` and a dataset.

The plan is made once, before any row is scored, and depends only on the request and the dataset, not on the number of
predictors. The edges of quantiles come from a sample of whole shards, evenly spaced: the whole split up to 100,000
rows and 256 MiB of pixels. So the quantiles of a larger split are of equal size except for sampling error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.manifest import Manifest, Shard, Split
from cnnlib.dataset.metadata import NEAR_DUPLICATE
from cnnlib.dataset.reader import read_shard
from cnnlib.dataset.record import Rows, decode_shard, table_to_rows
from cnnlib.errors import ConfigError
from cnnlib.slices.duplicates import NearDuplicates, hash_images
from cnnlib.slices.properties import PROPERTIES, measure
from cnnlib.slices.slicer import (
    Group,
    Slicer,
    check_count,
    metadata_column,
    numbers,
    parse_slices,
    quantile_names,
    value_names,
)
from cnnlib.storage.threads import DECODE_THREADS, map_threads

TRAIN_SPLIT = "train"
"""Images are compared with those of this split to find near-duplicates."""
SAMPLE_ROWS = 100_000
SAMPLE_BYTES = 256 * 2**20
MAX_NUMBERS = 20
"""A column of numbers is sliced by value up to this many distinct ones, by quantile above."""

MAX_SLICE_CLASSES = 2**20
"""The slices may have this many sums of a class together: each takes about 1 KB, most of it in its calibration bins."""

_NUMBER_TYPES = ("int64", "float64")

_T = TypeVar("_T")


def check_slices(requested: Sequence[str], manifest: Manifest, split_name: str) -> tuple[Group, ...]:
    """Parses `--slice-by` and checks it against the manifest alone.

    Args:
        requested: dimensions, or two joined by +.
        split_name: the split that is scored.

    Raises:
        ConfigError: the dataset has no such dimension, or near-duplicates are requested where there is no training
            split or where it is the one that is scored.
    """
    groups = parse_slices(requested, manifest.metadata)
    if any(NEAR_DUPLICATE in group for group in groups):
        if TRAIN_SPLIT not in manifest.splits:
            raise ConfigError(
                f"slice_by {NEAR_DUPLICATE} needs the images of the split {TRAIN_SPLIT!r}. Received a dataset with "
                f"the splits {', '.join(manifest.splits)}. Leave it out."
            )
        if split_name == TRAIN_SPLIT:
            raise ConfigError(
                f"slice_by {NEAR_DUPLICATE} compares the images with those of the split {TRAIN_SPLIT!r}. "
                f"Received split={split_name!r} itself. Leave it out, or score another split."
            )
    return groups


def plan_slicer(
    requested: Sequence[str], quantiles: int, dataset_uri: str, manifest: Manifest, split_name: str
) -> Slicer:
    """Builds a slicer from a sample of the split and, for near-duplicates, from all training images.

    Args:
        requested: dimensions, or two joined by +.
        quantiles: number of slices of equal size of an image property or a column of numbers. Where many rows share a
            value there are fewer, never an empty one.
        split_name: the split that is scored.

    Raises:
        ConfigError: as in `check_slices`, or there are too many slices.
        DatasetError: a shard is missing or does not match the manifest.
    """
    groups = check_slices(requested, manifest, split_name)
    names = list(dict.fromkeys(name for group in groups for name in group))
    sampled = [name for name in names if name != NEAR_DUPLICATE]
    values = _sample(sampled, dataset_uri, manifest, manifest.split(split_name))
    edges, counts = _find_edges(values, quantiles, manifest)
    counts[NEAR_DUPLICATE] = 2
    for group in groups:
        check_count(group, math.prod(counts[name] for name in group))
    _check_memory(sum(math.prod(counts[name] for name in group) for group in groups), manifest.num_classes)
    train = _load_train(dataset_uri, manifest) if NEAR_DUPLICATE in names else None
    return Slicer(groups=groups, edges=edges, train=train)


def list_slice_names(
    dimensions: Sequence[str], quantiles: int, dataset_uri: str, manifest: Manifest, split_name: str
) -> dict[str, list[str] | None]:
    """Returns the names of each dimension's slices; None for one whose values are only known in part.

    That is a column of a split with more rows than are sampled.

    Args:
        dimensions: names of dimensions, none crossed.
        quantiles, split_name: as in `plan_slicer`.

    Raises:
        DatasetError: a shard is missing or does not match the manifest.
    """
    sampled = [name for name in dimensions if name != NEAR_DUPLICATE]
    split = manifest.split(split_name)
    values = _sample(sampled, dataset_uri, manifest, split)
    edges, _ = _find_edges(values, quantiles, manifest)
    is_whole = len(sample_shards(split, math.prod(manifest.image_shape))) == len(split.shards)
    names: dict[str, list[str] | None] = {NEAR_DUPLICATE: [f"{NEAR_DUPLICATE}=no", f"{NEAR_DUPLICATE}=yes"]}
    for name, column in values.items():
        if name in edges:
            names[name] = quantile_names(name, len(edges[name]))
        else:
            names[name] = value_names(name, column.unique().to_pylist()) if is_whole else None
    return {name: names[name] for name in dimensions}


def sample_shards(split: Split, row_bytes: int) -> tuple[Shard, ...]:
    """Returns all shards of a split, or evenly spaced ones of about SAMPLE_ROWS and SAMPLE_BYTES, at least one.

    Args:
        row_bytes: size of one image's pixels.
    """
    fraction = min(1.0, SAMPLE_ROWS / split.rows, SAMPLE_BYTES / (split.rows * row_bytes))
    number = len(split.shards)
    count = max(1, math.floor(fraction * number))
    return tuple(split.shards[(2 * index + 1) * number // (2 * count)] for index in range(count))


def quantile_edges(values: npt.NDArray[np.floating], quantiles: int) -> tuple[float, ...]:
    """Returns the greatest value of every quantile except the last, rising; NaN is left out.

    An edge is one of the values (the inverse of the empirical distribution: Hyndman and Fan 1996, definition 1). Equal
    edges become one, and an edge at the greatest value is dropped, so that no quantile is empty.

    >>> quantile_edges(np.array([1.0, 2, 3, 4, 5, 6, 7, 8]), 4)
    (2.0, 4.0, 6.0)
    >>> quantile_edges(np.array([0.0, 0, 0, 0, 0, 7]), 4)
    (0.0,)
    """
    ordered = np.sort(values[~np.isnan(values)].astype(np.float64))
    if not len(ordered):
        return ()
    positions = [-(-len(ordered) * number // quantiles) - 1 for number in range(1, quantiles)]
    edges = np.unique(ordered[np.maximum(positions, 0)])
    return tuple(edges[edges < ordered[-1]].tolist())


def _sample(names: Sequence[str], dataset_uri: str, manifest: Manifest, split: Split) -> dict[str, pa.Array]:
    """Returns the values of dimensions in a sample of shards; of a dimension without numbers, the distinct ones."""
    if not names:
        return {}
    shards = sample_shards(split, math.prod(manifest.image_shape))
    samples = _map_shards(
        lambda rows: _sample_values(names, rows, manifest.metadata), dataset_uri, manifest, shards
    )
    return {name: pa.concat_arrays([sample[name] for sample in samples]) for name in names}


def _find_edges(
    sampled: Mapping[str, pa.Array], quantiles: int, manifest: Manifest
) -> tuple[dict[str, tuple[float, ...]], dict[str, int]]:
    """Returns the edges of the dimensions that have quantiles, and the number of slices of every dimension."""
    edges, counts = {}, {}
    for name, values in sampled.items():
        distinct = values.unique()
        is_property = name in PROPERTIES
        if is_property or (manifest.metadata[name] in _NUMBER_TYPES and len(distinct) > MAX_NUMBERS):
            edges[name] = quantile_edges(numbers(values), quantiles)
            counts[name] = len(edges[name]) + 1
        else:
            counts[name] = len(distinct)
    return edges, counts


def _sample_values(names: Sequence[str], rows: Rows, columns: Mapping[str, str]) -> dict[str, pa.Array]:
    """Returns the values of numeric dimensions, and the distinct values of the others."""
    values = {}
    for name in names:
        if name in PROPERTIES:
            values[name] = pa.array(measure(name, rows.images))
        else:
            column = metadata_column(rows, name)
            values[name] = column if columns[name] in _NUMBER_TYPES else column.unique()
    return values


def _check_memory(slices: int, num_classes: int) -> None:
    if slices * num_classes > MAX_SLICE_CLASSES:
        raise ConfigError(
            f"slice_by makes too many slices for so many classes. Received {slices} slices of {num_classes} classes, "
            f"expected at most {MAX_SLICE_CLASSES // num_classes}: each has sums for every class. "
            "Slice by fewer at a time."
        )


def _load_train(dataset_uri: str, manifest: Manifest) -> NearDuplicates:
    shards = manifest.split(TRAIN_SPLIT).shards
    hashes = _map_shards(lambda rows: hash_images(rows.images), dataset_uri, manifest, shards)
    return NearDuplicates(np.concatenate(hashes))


def _map_shards(
    function: Callable[[Rows], _T], dataset_uri: str, manifest: Manifest, shards: Sequence[Shard]
) -> list[_T]:
    """Returns the result of a function of every shard's rows, in order; a few shards are in memory at a time."""

    def read(shard: Shard) -> _T:
        table = decode_shard(read_shard(dataset_uri, shard), shard.name)
        return function(table_to_rows(table, manifest.image_shape))

    return map_threads(read, shards, threads=DECODE_THREADS)
