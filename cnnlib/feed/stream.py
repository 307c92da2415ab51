"""Feeds a worker from storage: streams its rows, epoch after epoch, in constant memory.

A worker reads all its virtual shards (order.py) at the same time. Of each virtual shard, the rows of one shard range
are in memory. Threads read ahead the ranges that are needed next, in the order in which they are needed. That order is
known when the epoch begins, so it does not depend on how fast anything is.

How well rows are mixed: a batch has `batch_size / virtual shards` rows from each of 16 or more places of the split.
Every epoch draws these places, and the rows there, anew. Rows of one shard range stay close in time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.manifest import ShardRange, shard_ranges
from cnnlib.dataset.reader import read_range
from cnnlib.dataset.record import Rows
from cnnlib.feed.feed import FeedTask, HostBatch
from cnnlib.feed.order import num_virtual_shards, range_order, row_order, split_rows, worker_partitions
from cnnlib.storage.threads import DECODE_THREADS

_READ_AHEAD_BYTES = 128 * 2**20  # pixels that are read before they are needed


class _Read(NamedTuple):
    """Describes one read: a shard range, as a virtual shard uses it in an epoch.

    Attributes:
        range_index: index of the range in the virtual shard, the same in every epoch.
        start: position of the range's first row in the split.
        train_rows: number of training rows in the range.
        first: index of the range's first training row among those of the virtual shard in this epoch.
    """

    virtual_shard: int
    range_index: int
    shard_range: ShardRange
    start: int
    train_rows: int
    first: int


class StreamFeed:
    """Feeds a worker from storage."""

    def __init__(self, task: FeedTask) -> None:
        self.task = task
        # One pool for all epochs: Arrow keeps a read buffer for each thread that ever read.
        self._pool = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="read-shard")

    @property
    def virtual_shards(self) -> range:
        """Returns the virtual shards of this worker."""
        # Workers own contiguous virtual shards, as they own contiguous partitions.
        count = num_virtual_shards(self.task.batch_size, self.task.workers)
        return worker_partitions(count, self.task.workers, self.task.rank)

    def epoch(self, epoch: int, steps: int, steps_per_call: int) -> Generator[HostBatch]:
        """Implements `Feed.epoch`.

        Raises:
            DatasetError: a shard is missing or its bytes do not match the manifest.
        """
        width = self.task.worker_batch_size // len(self.virtual_shards)  # rows of a virtual shard in one step
        rows_per_call = steps_per_call * width
        needed = [
            read
            for virtual_shard in self.virtual_shards
            for read in self._reads(virtual_shard, epoch)
            if read.train_rows and read.first < steps * width
        ]
        # The order in which `_batch` needs them: all rows that a call takes of one virtual shard, then of the next.
        needed.sort(key=lambda read: (read.first // rows_per_call, read.virtual_shard, read.first))
        with _ReadAhead(self._pool, self.task, needed) as read_ahead:
            mixers = [_Mixer(read_ahead, self.task, epoch) for _ in self.virtual_shards]
            for first in range(0, steps, steps_per_call):
                yield self._batch(mixers, min(steps_per_call, steps - first), width)

    def validation_rows(self) -> Iterator[Rows]:
        """Implements `Feed.validation_rows`. It reads all of the worker's shards for a few rows of each."""
        if not self.task.validation_split.count:
            return
        reads = [
            read for virtual_shard in self.virtual_shards for read in self._reads(virtual_shard, epoch=None)
        ]
        with _ReadAhead(self._pool, self.task, reads) as read_ahead:
            for _ in reads:
                read, rows = read_ahead.next_rows()
                yield rows.take(np.flatnonzero(_validation_mask(self.task, read)))

    def _batch(self, mixers: list[_Mixer], steps: int, width: int) -> HostBatch:
        size, shape = self.task.worker_batch_size, self.task.manifest.image_shape
        batch = HostBatch(
            images=np.empty((steps, size, *shape), np.uint8),
            labels=np.empty((steps, size), np.int32),
            ids=np.empty((steps, size), np.int64),
        )
        for column, mixer in enumerate(mixers):
            mixer.fill(batch, slice(column * width, (column + 1) * width), steps * width)
        return batch

    def _reads(self, virtual_shard: int, epoch: int | None) -> list[_Read]:
        """Returns the reads of a virtual shard in the order of an epoch; None: in the order of the manifest."""
        task = self.task
        count = num_virtual_shards(task.batch_size, task.workers)
        own = split_rows(task.validation_split, count)[virtual_shard]
        reads, start = [], own.start
        for index, shard_range in enumerate(shard_ranges(task.split.shards, own.start, own.stop)):
            stop = start + shard_range.rows
            train_rows = task.validation_split.train_below(stop) - task.validation_split.train_below(start)
            reads.append(_Read(virtual_shard, index, shard_range, start, train_rows, 0))
            start = stop
        if epoch is None:
            return reads
        ordered, first = [], 0
        for index in range_order(len(reads), task.seed, epoch, virtual_shard):
            ordered.append(reads[index]._replace(first=first))
            first += reads[index].train_rows
        return ordered


class _ReadAhead:
    """Reads shard ranges in a given order, each before it is needed."""

    def __init__(self, pool: ThreadPoolExecutor, task: FeedTask, reads: list[_Read]) -> None:
        most_rows = max((read.shard_range.rows for read in reads), default=1)
        self._task = task
        self._waiting = deque(reads)
        self._ahead = max(2, _READ_AHEAD_BYTES // (most_rows * math.prod(task.manifest.image_shape)))
        self._running: deque[tuple[_Read, Future[Rows]]] = deque()
        self._pool = pool

    def __enter__(self) -> _ReadAhead:
        self._submit()
        return self

    def __exit__(self, *_: object) -> None:
        for _, rows in self._running:
            rows.cancel()
        self._running.clear()

    def next_rows(self) -> tuple[_Read, Rows]:
        """Waits for the next read and returns it with its rows."""
        read, rows = self._running.popleft()
        self._submit()
        return read, rows.result()

    def _submit(self) -> None:
        while self._waiting and len(self._running) < self._ahead:
            read, task = self._waiting.popleft(), self._task
            rows = self._pool.submit(read_range, task.dataset_uri, task.manifest, read.shard_range)
            self._running.append((read, rows))


class _Mixer:
    """Gives the shuffled training rows of one virtual shard in one epoch."""

    def __init__(self, read_ahead: _ReadAhead, task: FeedTask, epoch: int) -> None:
        self._read_ahead = read_ahead
        self._task = task
        self._epoch = epoch
        self._rows: Rows | None = None
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def fill(self, batch: HostBatch, columns: slice, count: int) -> None:
        """Writes the next `count` rows into some columns of a batch, step by step."""
        taken: list[tuple[Rows, npt.NDArray[np.int64]]] = []
        while count:
            if not len(self._order):
                self._next_range()
            assert self._rows is not None
            indexes, self._order = self._order[:count], self._order[count:]
            taken.append((self._rows, indexes))
            count -= len(indexes)
        for name in ("images", "labels", "ids"):
            target = getattr(batch, name)[:, columns]
            values = [getattr(rows, name)[indexes] for rows, indexes in taken]
            joined = values[0] if len(values) == 1 else np.concatenate(values)
            target[...] = joined.reshape(target.shape)

    def _next_range(self) -> None:
        self._rows = None  # freed first, so that one range at a time is in memory
        read, self._rows = self._read_ahead.next_rows()
        task = self._task
        train = np.flatnonzero(~_validation_mask(task, read))
        self._order = train[
            row_order(len(train), task.seed, self._epoch, read.virtual_shard, read.range_index)
        ]


def _validation_mask(task: FeedTask, read: _Read) -> npt.NDArray[np.bool_]:
    return task.validation_split.mask(read.start, read.start + read.shard_range.rows)
