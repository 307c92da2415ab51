"""Reads every row of a dataset again and compares it with the manifest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.manifest import Manifest, Shard, whole_shard
from cnnlib.dataset.reader import read_range
from cnnlib.errors import DatasetError
from cnnlib.storage.threads import DECODE_THREADS, map_threads


def verify_dataset(dataset_uri: str, manifest: Manifest) -> dict[str, int]:
    """Checks the digest, the number of rows, the images, the labels and the ids of every shard.

    Returns:
        The number of rows of each split.

    Raises:
        DatasetError: a shard is missing or damaged, or its rows are not those that the manifest counts.
        RowCountError: a shard has another number of rows than the manifest states.
    """
    return {name: _verify_split(dataset_uri, manifest, name) for name in manifest.splits}


def _verify_split(dataset_uri: str, manifest: Manifest, name: str) -> int:
    split = manifest.split(name)
    counts = np.zeros(manifest.num_classes, np.int64)
    ids: list[npt.NDArray[np.int64]] = []
    for shard_counts, shard_ids in _read(dataset_uri, manifest, split.shards):
        counts += shard_counts
        ids.append(shard_ids)
    if tuple(counts.tolist()) != split.rows_per_class or int(counts.sum()) != split.rows:
        raise DatasetError(
            f"{dataset_uri}: the split {name!r} has {counts.tolist()} rows per class. The manifest states "
            f"{list(split.rows_per_class)}. Prepare the dataset again."
        )
    if len(np.unique(np.concatenate(ids))) != split.rows:
        raise DatasetError(
            f"{dataset_uri}: two rows of the split {name!r} have one id. Prepare the dataset again."
        )
    return split.rows


def _read(
    dataset_uri: str, manifest: Manifest, shards: tuple[Shard, ...]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yields the rows per class and the ids of each shard; a few shards are in memory at a time."""

    def read(item: tuple[int, Shard]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        index, shard = item
        rows = read_range(dataset_uri, manifest, whole_shard(index, shard))
        if len(rows) and not 0 <= int(rows.labels.min()) <= int(rows.labels.max()) < manifest.num_classes:
            raise DatasetError(
                f"{dataset_uri}: {shard.name} has labels outside 0..{manifest.num_classes - 1}."
            )
        return np.bincount(rows.labels, minlength=manifest.num_classes), rows.ids

    yield from map_threads(read, list(enumerate(shards)), threads=DECODE_THREADS)
