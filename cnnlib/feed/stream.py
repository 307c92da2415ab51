"""Feeds a worker from storage: streams its rows, epoch after epoch, in constant memory.

A worker reads all its virtual shards (order.py) at the same time. Of each virtual shard, the rows of one shard range
are in memory. Threads read ahead the ranges that are needed next, in the order in which they are needed. That order is
known when the epoch begins, so it does not depend on how fast anything is.

How well rows are mixed: a batch has rows from 16 places of the split. Every epoch draws these places, and the rows
there, anew. Rows of one shard range stay close in time.
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
from cnnlib.feed.order import (
    RowRange,
    Share,
    cut_pieces,
    deal_pieces,
    range_order,
    row_order,
    split_pieces,
    virtual_shard_columns,
    worker_shares,
)
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
        self._ranges = _deal_pieces(task)
        # One pool for all epochs: Arrow keeps a read buffer for each thread that ever read.
        self._pool = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="read-shard")

    def epoch(self, epoch: int, steps: int, steps_per_call: int) -> Generator[HostBatch]:
        """Implements `Feed.epoch`.

        Raises:
            DatasetError: a shard is missing or its bytes do not match the manifest.
        """
        shares = self._shares()
        needed = [
            (read.first // (steps_per_call * share.width), read)
            for share in shares
            for read in self._reads(share.virtual_shard, epoch)
            if read.train_rows and read.first < steps * share.width
        ]
        # The order in which `_batch` needs them: all rows that a call takes of one virtual shard, then of the next.
        needed.sort(key=lambda each: (each[0], each[1].virtual_shard, each[1].first))
        with _ReadAhead(self._pool, self.task, [read for _, read in needed]) as read_ahead:
            mixers = [_Mixer(read_ahead, self.task, epoch) for _ in shares]
            for first in range(0, steps, steps_per_call):
                yield self._batch(shares, mixers, min(steps_per_call, steps - first))

    def validation_rows(self) -> Iterator[Rows]:
        """Implements `Feed.validation_rows`. It reads all of the worker's shards for a few rows of each."""
        task = self.task
        if not task.validation_split.count:
            return
        columns = virtual_shard_columns(task.batch_size)
        # Of the workers that share a virtual shard, the first gives its validation rows.
        own = [
            number
            for number, first in enumerate(columns[:-1])
            if first // task.worker_batch_size == task.rank
        ]
        reads = [read for number in own for read in self._reads(number, epoch=None)]
        with _ReadAhead(self._pool, task, reads) as read_ahead:
            for _ in reads:
                read, rows = read_ahead.next_rows()
                yield rows.take(np.flatnonzero(_validation_mask(task, read)))

    def _shares(self) -> list[Share]:
        return worker_shares(self.task.batch_size, self.task.workers, self.task.rank)

    def _batch(self, shares: list[Share], mixers: list[_Mixer], steps: int) -> HostBatch:
        size, shape = self.task.worker_batch_size, self.task.manifest.image_shape
        batch = HostBatch(
            images=np.empty((steps, size, *shape), np.uint8),
            labels=np.empty((steps, size), np.int32),
            ids=np.empty((steps, size), np.int64),
        )
        for share, mixer in zip(shares, mixers, strict=True):
            mixer.fill(batch, share)
        return batch

    def _reads(self, virtual_shard: int, epoch: int | None) -> list[_Read]:
        """Returns the reads of a virtual shard in the order of an epoch; None: in the order of the manifest."""
        task = self.task
        reads: list[_Read] = []
        for row_range in self._ranges[virtual_shard]:
            start = row_range.start
            for shard_range in shard_ranges(task.split.shards, *row_range):
                mask = task.validation_split.mask(start, start + shard_range.rows)
                train_rows = shard_range.rows - int(mask.sum())
                reads.append(_Read(virtual_shard, len(reads), shard_range, start, train_rows, 0))
                start += shard_range.rows
        if epoch is None:
            return reads
        ordered, first = [], 0
        for index in range_order(len(reads), task.seed, epoch, virtual_shard):
            ordered.append(reads[index]._replace(first=first))
            first += reads[index].train_rows
        return ordered


def _deal_pieces(task: FeedTask) -> list[list[RowRange]]:
    """Returns the positions of the split that each virtual shard reads, the same for every number of workers."""
    pieces = cut_pieces([shard.rows for shard in task.split.shards], task.pieces_per_shard)
    dealt = [pieces[index] for index in deal_pieces(len(pieces), task.seed)]
    return split_pieces(dealt, task.validation_split, task.batch_size)


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
            rows = self._pool.submit(_read_rows, task, read.shard_range)
            self._running.append((read, rows))


class _Mixer:
    """Gives the shuffled training rows of one virtual shard in one epoch."""

    def __init__(self, read_ahead: _ReadAhead, task: FeedTask, epoch: int) -> None:
        self._read_ahead = read_ahead
        self._task = task
        self._epoch = epoch
        self._rows: Rows | None = None
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def fill(self, batch: HostBatch, share: Share) -> None:
        """Writes the next rows of a virtual shard into its columns of a batch, step by step."""
        count = len(batch.labels) * share.width
        taken: list[tuple[Rows, npt.NDArray[np.int64]]] = []
        while count:
            if not len(self._order):
                self._next_range()
            assert self._rows is not None
            indexes, self._order = self._order[:count], self._order[count:]
            taken.append((self._rows, indexes))
            count -= len(indexes)
        for name in ("images", "labels", "ids"):
            target = getattr(batch, name)[:, share.columns]
            values = [getattr(rows, name)[indexes] for rows, indexes in taken]
            joined = values[0] if len(values) == 1 else np.concatenate(values)
            target[...] = joined.reshape(-1, share.width, *target.shape[2:])[:, share.taken]

    def _next_range(self) -> None:
        self._rows = None  # freed first, so that one range at a time is in memory
        read, self._rows = self._read_ahead.next_rows()
        task = self._task
        train = np.flatnonzero(~_validation_mask(task, read))
        self._order = train[
            row_order(len(train), task.seed, self._epoch, read.virtual_shard, read.range_index)
        ]


def _read_rows(task: FeedTask, shard_range: ShardRange) -> Rows:
    rows = read_range(task.dataset_uri, task.manifest, shard_range)
    if 2 * shard_range.rows > shard_range.shard.rows:
        return rows
    # Copied, so that a small piece does not keep its whole shard in memory.
    return Rows(ids=rows.ids.copy(), images=rows.images.copy(), labels=rows.labels.copy())


def _validation_mask(task: FeedTask, read: _Read) -> npt.NDArray[np.bool_]:
    return task.validation_split.mask(read.start, read.start + read.shard_range.rows)
