"""A worker's rows streamed from storage, epoch after epoch, in flat memory.

A worker reads its virtual shards (see order.py) side by side: of each, one file's rows are in memory, and the files
that will be needed next are read ahead, in the order in which they will be needed. That order is known from the
start, so it is the same whatever is slow.

How well rows are mixed: a batch takes `batch_size / virtual shards` rows from each of 16 or more places of the split;
which places, and which rows there, is drawn anew every epoch. Rows of one file stay neighbours in time.
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
from cnnlib.dataset.reader import READERS, read_range
from cnnlib.dataset.record import Rows
from cnnlib.feed.feed import FeedTask, HostBatch
from cnnlib.feed.order import file_order, num_virtual_shards, row_order, split_rows, worker_partitions

_READ_AHEAD_BYTES = 128 * 2**20


class _File(NamedTuple):
    """A shard, or a part of one, as a virtual shard reads it in an epoch.

    Attributes:
        shard: the virtual shard.
        number: of the file in the virtual shard, whatever the epoch.
        part: the rows of the shard.
        start: position of the first of them in the split.
        train_rows: how many of them are trained on.
        first: index of the first of them in the virtual shard's epoch.
    """

    shard: int
    number: int
    part: ShardRange
    start: int
    train_rows: int
    first: int


class StreamFeed:
    """Feeds a worker from storage."""

    def __init__(self, task: FeedTask) -> None:
        self.task = task
        # The same threads for every epoch: Arrow keeps, for each thread that ever read, what it will read into.
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="read-shard")

    @property
    def shards(self) -> range:
        """The worker's virtual shards."""
        count = num_virtual_shards(self.task.batch_size, self.task.workers)
        return worker_partitions(count, self.task.workers, self.task.rank)

    def epoch(self, epoch: int, steps: int, steps_per_call: int) -> Generator[HostBatch]:
        """See `Feed.epoch`.

        Raises:
            DatasetError: a shard is missing or its bytes do not match the manifest.
        """
        width = self.task.worker_batch_size // len(self.shards)  # rows of a virtual shard in one step
        rows_per_call = steps_per_call * width
        needed = [
            file
            for shard in self.shards
            for file in self._files(shard, epoch)
            if file.train_rows and file.first < steps * width
        ]
        # A call takes all its rows of one virtual shard, then of the next: in this order files are asked for.
        needed.sort(key=lambda file: (file.first // rows_per_call, file.shard, file.first))
        with _Reader(self._pool, self.task, needed) as reader:
            mixers = [_Mixer(reader, self.task, epoch) for _ in self.shards]
            for first in range(0, steps, steps_per_call):
                yield self._batch(mixers, min(steps_per_call, steps - first), width)

    def validation_rows(self) -> Iterator[Rows]:
        """See `Feed.validation_rows`. Reads all of the worker's files, for the few rows of each."""
        if not self.task.validation_split.count:
            return
        files = [file for shard in self.shards for file in self._files(shard, epoch=None)]
        with _Reader(self._pool, self.task, files) as reader:
            for _ in files:
                file, rows = reader.next_file()
                yield rows.take(np.flatnonzero(_validation_mask(self.task, file)))

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

    def _files(self, shard: int, epoch: int | None) -> list[_File]:
        """A virtual shard's files, in an epoch's order; None: in the manifest's."""
        task = self.task
        own = split_rows(task.validation_split, num_virtual_shards(task.batch_size, task.workers))[shard]
        files, start = [], own.start
        for index, part in enumerate(shard_ranges(task.split.shards, own.start, own.stop)):
            stop = start + part.stop - part.start
            train_rows = task.validation_split.train_below(stop) - task.validation_split.train_below(start)
            files.append(_File(shard, index, part, start, train_rows, 0))
            start = stop
        if epoch is None:
            return files
        ordered, first = [], 0
        for index in file_order(len(files), task.seed, epoch, shard):
            ordered.append(files[index]._replace(first=first))
            first += files[index].train_rows
        return ordered


class _Reader:
    """Reads files in a given order, some ahead of the one that is asked for."""

    def __init__(self, pool: ThreadPoolExecutor, task: FeedTask, files: list[_File]) -> None:
        most_rows = max((file.part.stop - file.part.start for file in files), default=1)
        self._task = task
        self._waiting = deque(files)
        self._ahead = max(2, _READ_AHEAD_BYTES // (most_rows * math.prod(task.manifest.image_shape)))
        self._reading: deque[tuple[_File, Future[Rows]]] = deque()
        self._pool = pool

    def __enter__(self) -> _Reader:
        self._read_ahead()
        return self

    def __exit__(self, *_: object) -> None:
        for _, reading in self._reading:
            reading.cancel()
        self._reading.clear()

    def next_file(self) -> tuple[_File, Rows]:
        """The next file and its rows."""
        file, rows = self._reading.popleft()
        self._read_ahead()
        return file, rows.result()

    def _read_ahead(self) -> None:
        while self._waiting and len(self._reading) < self._ahead:
            file = self._waiting.popleft()
            task = self._task
            self._reading.append(
                (file, self._pool.submit(read_range, task.dataset_uri, task.manifest, file.part))
            )


class _Mixer:
    """Gives the rows of one virtual shard, one epoch long, from one file after the other."""

    def __init__(self, reader: _Reader, task: FeedTask, epoch: int) -> None:
        self._reader = reader
        self._task = task
        self._epoch = epoch
        self._rows: Rows | None = None
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def fill(self, batch: HostBatch, columns: slice, count: int) -> None:
        """Puts the next `count` rows into some columns of a batch, step by step."""
        parts: list[tuple[Rows, npt.NDArray[np.int64]]] = []
        while count:
            if not len(self._order):
                self._next_file()
            assert self._rows is not None
            taken, self._order = self._order[:count], self._order[count:]
            parts.append((self._rows, taken))
            count -= len(taken)
        for name in ("images", "labels", "ids"):
            target = getattr(batch, name)[:, columns]
            picked = [getattr(rows, name)[taken] for rows, taken in parts]
            whole = picked[0] if len(picked) == 1 else np.concatenate(picked)
            target[...] = whole.reshape(target.shape)

    def _next_file(self) -> None:
        self._rows = None  # before the next: one file's rows at a time
        file, self._rows = self._reader.next_file()
        task = self._task
        train = np.flatnonzero(~_validation_mask(task, file))
        self._order = train[row_order(len(train), task.seed, self._epoch, file.shard, file.number)]


def _validation_mask(task: FeedTask, file: _File) -> npt.NDArray[np.bool_]:
    return task.validation_split.mask(file.start, file.start + file.part.stop - file.part.start)
