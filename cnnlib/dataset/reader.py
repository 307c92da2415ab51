"""Rows out of a data set's shards: a range of a split, or some rows of one shard, checked against the manifest."""

from __future__ import annotations

import numpy as np

from cnnlib.dataset.manifest import Manifest, ShardRange, Split, read_shard, shard_ranges
from cnnlib.dataset.record import Rows, decode_shard, table_to_rows
from cnnlib.storage.threads import DECODE_THREADS, map_threads

READERS = DECODE_THREADS
"""Shards that are read side by side by one process."""


def read_rows(dataset_uri: str, manifest: Manifest, split: Split, start: int, stop: int) -> Rows:
    """Reads rows [start, stop) of a split, several shards at a time, into arrays made for them.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """
    count = stop - start
    rows = Rows(
        ids=np.empty(count, np.int64),
        images=np.empty((count, *manifest.image_shape), np.uint8),
        labels=np.empty(count, np.int32),
    )
    slices = list(shard_ranges(split.shards, start, stop))
    firsts = np.cumsum([0, *(part.stop - part.start for part in slices)])

    def fill(part: ShardRange, first: int) -> None:
        some, end = read_range(dataset_uri, manifest, part), first + part.stop - part.start
        rows.ids[first:end], rows.images[first:end], rows.labels[first:end] = (
            some.ids,
            some.images,
            some.labels,
        )

    map_threads(lambda each: fill(*each), zip(slices, firsts.tolist(), strict=False), threads=READERS)
    return rows


def read_range(dataset_uri: str, manifest: Manifest, part: ShardRange) -> Rows:
    """Reads some rows of one shard; the whole shard is read, to check its digest.

    Raises:
        DatasetError: the shard is missing or its bytes do not match the manifest.
    """
    table = decode_shard(read_shard(dataset_uri, part.shard), part.shard.name)
    return table_to_rows(table.slice(part.start, part.stop - part.start), manifest.image_shape)
