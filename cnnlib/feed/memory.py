"""A worker's rows in memory: its shards are read once, every epoch picks the rows in that epoch's order."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.manifest import Manifest, ShardSlice, Split, read_shard, slice_rows
from cnnlib.dataset.record import Rows, decode_shard, table_to_rows
from cnnlib.feed.feed import FeedTask, HostBatch
from cnnlib.feed.order import RowRange, epoch_order, split_rows, worker_lanes

READERS = min(4, os.cpu_count() or 1)
_HELD_OUT_ROWS = 4096


class MemoryFeed:
    """Feeds a worker from memory. Every epoch is a new permutation of all training rows, lane by lane."""

    def __init__(self, task: FeedTask) -> None:
        """Reads the worker's rows.

        Raises:
            DatasetError: a shard is missing or its bytes do not match the manifest.
        """
        own = split_rows(task.held_out, task.workers)[task.rank]
        mask = task.held_out.mask(own.start, own.stop)
        self._task = task
        self._rows = read_rows(task.dataset_uri, task.manifest, task.split, own)
        self._train, self._held_out = np.flatnonzero(~mask), np.flatnonzero(mask)

    def epoch(self, epoch: int, steps: int, steps_per_call: int) -> Generator[HostBatch]:
        """See `Feed.epoch`."""
        order = self._order(epoch)[:steps]
        return gather(self._rows, order, steps_per_call)

    def held_out(self) -> Iterator[Rows]:
        """See `Feed.held_out`."""
        for first in range(0, len(self._held_out), _HELD_OUT_ROWS):
            yield self._rows.take(self._held_out[first : first + _HELD_OUT_ROWS])

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Indexes into the worker's rows for every step, int64 [steps, worker batch]."""
        task = self._task
        lanes = worker_lanes(task.batch_size, task.workers, task.rank)
        rows = task.held_out.train_rows
        order = epoch_order(rows, task.batch_size, lanes, task.seed, epoch)
        return self._train[order - lanes.start * rows // task.batch_size]


def gather(rows: Rows, order: npt.NDArray[np.int64], steps_per_call: int) -> Generator[HostBatch]:
    """Yields rows in an order of indexes, int64 [steps, worker batch], so many steps at a time."""
    for first in range(0, len(order), steps_per_call):
        part = order[first : first + steps_per_call]
        yield HostBatch(images=rows.images[part], labels=rows.labels[part], ids=rows.ids[part])


def read_rows(dataset_uri: str, manifest: Manifest, split: Split, wanted: RowRange) -> Rows:
    """Reads a range of a split's rows, several shards at a time, into arrays made for them.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """
    count = wanted.stop - wanted.start
    rows = Rows(
        ids=np.empty(count, np.int64),
        images=np.empty((count, *manifest.image_shape), np.uint8),
        labels=np.empty(count, np.int32),
    )
    slices = list(slice_rows(split.shards, wanted.start, wanted.stop))
    firsts = np.cumsum([0, *(part.stop - part.start for part in slices)])

    def fill(part: ShardSlice, first: int) -> None:
        some, stop = read_slice(dataset_uri, manifest, part), first + part.stop - part.start
        rows.ids[first:stop], rows.images[first:stop], rows.labels[first:stop] = (
            some.ids,
            some.images,
            some.labels,
        )

    with ThreadPoolExecutor(READERS, thread_name_prefix="read-rows") as pool:
        list(pool.map(fill, slices, firsts.tolist()))
    return rows


def read_slice(dataset_uri: str, manifest: Manifest, part: ShardSlice) -> Rows:
    """Reads some rows of one shard; the whole shard is read, to check its digest.

    Raises:
        DatasetError: the shard is missing or its bytes do not match the manifest.
    """
    table = decode_shard(read_shard(dataset_uri, part.shard), part.shard.name)
    return table_to_rows(table.slice(part.start, part.stop - part.start), manifest.image_shape)
