"""Feeds a worker with streamed rows, epoch after epoch, in constant memory.

The blocks come in the order of need (stream_plan.py), read ahead by whoever reads them: tasks of the cluster in a
training (read_tasks.py). A worker takes rows of all its virtual shards at the same time; of each, one block is in
memory. One stream goes on from epoch to epoch, so no epoch begins with waiting.

How well rows are mixed: a batch has rows from 16 places of the split. Every epoch draws these places, and the rows
there, anew. Rows of one shard range stay close in time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing

import numpy as np

from cnnlib.dataset.record import Rows
from cnnlib.errors import RowCountError
from cnnlib.feed.feed import FeedTask, HostBatch
from cnnlib.feed.order import Share
from cnnlib.feed.stream_plan import PlannedRead, StreamPlan

ReadBlocks = Callable[[Iterable[PlannedRead]], Generator[Rows]]
"""Reads the blocks of planned reads, in their order; closed when no more are needed."""


class StreamFeed:
    """Feeds a worker with rows that are read as they are needed."""

    def __init__(self, task: FeedTask, read_blocks: ReadBlocks, last_epoch: int = 1) -> None:
        """Takes what reads the blocks.

        Args:
            last_epoch: up to which the stream goes on.
        """
        self._task = task
        self._plan = StreamPlan(task)
        self._read_blocks = read_blocks
        self._last_epoch = last_epoch
        self._stream: tuple[tuple[int, int, int, int], Generator[tuple[PlannedRead, Rows]]] | None = None

    def epoch(self, epoch: int, steps: int, steps_per_call: int, done_steps: int = 0) -> Generator[HostBatch]:
        """Implements `Feed.epoch`.

        Raises:
            DatasetError: a shard is missing or its bytes do not match the manifest.
            RowCountError: another number of rows came than was planned.
        """
        blocks = self._blocks_of(epoch, steps, steps_per_call, done_steps)
        finished = False
        try:
            mixers = [_Mixer(number, share, blocks) for number, share in enumerate(self._plan.shares)]
            for first in range(done_steps, steps, steps_per_call):
                yield self._batch(mixers, min(steps_per_call, steps - first))
            finished = not any(mixer.left for mixer in mixers)
            if not finished:
                raise RowCountError(
                    f"Worker {self._task.rank} received more rows in epoch {epoch} than its steps take."
                )
        finally:
            if finished and epoch < self._last_epoch:
                self._stream = ((epoch + 1, steps, steps_per_call, 0), blocks)
            else:
                blocks.close()

    def validation_rows(self) -> Iterator[Rows]:
        """Implements `Feed.validation_rows`. It reads every shard with validation rows of the worker."""
        reads = list(self._plan.validation())
        with closing(self._read_blocks(reads)) as blocks:
            for read in reads:
                yield _checked(read, next(blocks))

    def _blocks_of(
        self, epoch: int, steps: int, steps_per_call: int, done_steps: int
    ) -> Generator[tuple[PlannedRead, Rows]]:
        """Returns the blocks from an epoch to the last, those that are on their way if the epoch follows on another."""
        asked, self._stream, running = (epoch, steps, steps_per_call, done_steps), None, self._stream
        if running is not None:
            if running[0] == asked:
                return running[1]
            running[1].close()
        return self._open(*asked)

    def _open(
        self, epoch: int, steps: int, steps_per_call: int, done_steps: int
    ) -> Generator[tuple[PlannedRead, Rows]]:
        planned: list[PlannedRead] = []  # reads that have begun; the reader is a few blocks ahead

        def reads() -> Iterator[PlannedRead]:
            for number in range(epoch, max(epoch, self._last_epoch) + 1):
                done = done_steps if number == epoch else 0
                for read in self._plan.epoch(number, steps, steps_per_call, done):
                    planned.append(read)
                    yield read

        with closing(self._read_blocks(reads())) as blocks:
            for rows in blocks:
                yield planned.pop(0), rows

    def _batch(self, mixers: list[_Mixer], steps: int) -> HostBatch:
        size, shape = self._task.worker_batch_size, self._task.manifest.image_shape
        batch = HostBatch(
            images=np.empty((steps, size, *shape), np.uint8),
            labels=np.empty((steps, size), np.int32),
            ids=np.empty((steps, size), np.int64),
        )
        for mixer in mixers:
            mixer.fill(batch)
        return batch


class _Mixer:
    """Gives the rows of one share in one epoch, in their order."""

    def __init__(self, number: int, share: Share, blocks: Generator[tuple[PlannedRead, Rows]]) -> None:
        self._number = number
        self._share = share
        self._blocks = blocks
        self._rows: Rows | None = None
        self._used = 0

    @property
    def left(self) -> int:
        """Returns how many rows of the last block were not used."""
        return 0 if self._rows is None else len(self._rows) - self._used

    def fill(self, batch: HostBatch) -> None:
        """Writes the next rows of the share into its columns of a batch, step by step."""
        count = batch.labels[:, self._share.columns].size
        parts = []
        while count:
            if not self.left:
                self._next_block()
            assert self._rows is not None
            stop = min(self._used + count, len(self._rows))
            parts.append(self._rows.slice(self._used, stop))
            count -= stop - self._used
            self._used = stop
        for name in ("images", "labels", "ids"):
            target = getattr(batch, name)[:, self._share.columns]
            values = [getattr(rows, name) for rows in parts]
            joined = values[0] if len(values) == 1 else np.concatenate(values)
            target[...] = joined.reshape(target.shape)

    def _next_block(self) -> None:
        self._rows = None  # freed first, so that one block at a time is in memory
        read, rows = next(self._blocks)
        if read.share != self._number:
            raise RowCountError(
                f"A block of share {read.share} came in place of one of share {self._number}."
            )
        self._rows, self._used = _checked(read, rows), 0


def _checked(read: PlannedRead, rows: Rows) -> Rows:
    if len(rows) != len(read.rows):
        raise RowCountError(
            f"A block of {read.shard_range.shard.name} has {len(rows)} rows, expected {len(read.rows)}."
        )
    return rows
