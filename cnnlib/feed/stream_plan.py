"""Plans what a worker that streams its rows reads: which rows of which shard, in the order of need. Pure arithmetic.

A virtual shard (order.py) gives `width` rows to every step, and a worker takes some of them. The rows that a worker
takes of one shard range are one read; its block holds these rows in the order in which the steps need them. So a block
carries nothing that its worker does not use, and the worker only cuts blocks into batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.manifest import ShardRange, shard_ranges, whole_shard
from cnnlib.feed.feed import FeedTask
from cnnlib.feed.order import (
    RowRange,
    Share,
    cut_pieces,
    deal_pieces,
    range_order,
    row_order,
    split_pieces,
    worker_shares,
)


class PlannedRead(NamedTuple):
    """Describes one block: rows of one shard, for one share of a worker.

    Attributes:
        share: index of the share among those of the worker; 0 for validation rows.
        rows: the rows as indexes into the shard, in the order of need, int64 [rows].
        epoch: the epoch that the rows are for, which decides how they are cropped; None: they are not cropped.
    """

    share: int
    shard_range: ShardRange
    rows: npt.NDArray[np.int64]
    epoch: int | None


class _Range(NamedTuple):
    """A shard range as one share uses it in an epoch.

    Attributes:
        number: index of the range in its virtual shard, the same in every epoch.
        position: position of the range's first row in the split.
        first: index of the range's first training row among those of the virtual shard in this epoch.
        own: index of the first row that the worker takes of the range, among those that it takes of the share.
    """

    share: int
    number: int
    shard_range: ShardRange
    position: int
    train_rows: int
    first: int
    own: int


class StreamPlan:
    """Says what one worker reads, for any epoch."""

    def __init__(self, task: FeedTask) -> None:
        self._task = task
        self.shares = worker_shares(task.batch_size, task.workers, task.rank)
        ranges = _deal_pieces(task)
        self._ranges = [self._shard_ranges(ranges[share.virtual_shard]) for share in self.shares]

    def epoch(
        self, epoch: int, steps: int, steps_per_call: int, done_steps: int = 0
    ) -> Iterator[PlannedRead]:
        """Yields the reads of an epoch in the order in which calls of so many steps need them.

        Args:
            epoch: the number of the epoch, from 1.
            steps: steps of the epoch.
            steps_per_call: steps whose rows are taken from one share, and then from the next.
            done_steps: the first steps of the epoch, whose rows are not read.
        """
        needed: list[tuple[int, _Range]] = []
        for number, share in enumerate(self.shares):
            width = share.taken.stop - share.taken.start
            for each in self._epoch_ranges(number, epoch):
                end = min(steps * width, _taken_before(share, each.first + each.train_rows))
                if max(each.own, done_steps * width) < end:
                    needed.append((max(each.own // width - done_steps, 0) // steps_per_call, each))
        needed.sort(key=lambda item: (item[0], item[1].share, item[1].own))
        for _, each in needed:
            yield self._plan(each, epoch, steps, done_steps)

    def validation(self) -> Iterator[PlannedRead]:
        """Yields the reads of the worker's part of the validation rows, in the order of the split."""
        task = self._task
        split, count = task.validation_split, task.validation_split.count
        low, high = task.rank * count // task.workers, (task.rank + 1) * count // task.workers
        position = before = 0
        for index, shard in enumerate(task.split.shards):
            rows = np.flatnonzero(split.mask(position, position + shard.rows))
            own = rows[max(low - before, 0) : max(high - before, 0)]
            if len(own):
                yield PlannedRead(0, whole_shard(index, shard), own, None)
            position += shard.rows
            before += len(rows)

    def _shard_ranges(self, row_ranges: list[RowRange]) -> list[tuple[ShardRange, int, int]]:
        """Returns the shard ranges of a virtual shard, each with its first row's position and its training rows."""
        task, found = self._task, []
        for row_range in row_ranges:
            position = row_range.start
            for each in shard_ranges(task.split.shards, *row_range):
                mask = task.validation_split.mask(position, position + each.rows)
                found.append((each, position, each.rows - int(mask.sum())))
                position += each.rows
        return found

    def _epoch_ranges(self, number: int, epoch: int) -> Iterator[_Range]:
        share, first = self.shares[number], 0
        ranges = self._ranges[number]
        for index in range_order(len(ranges), self._task.seed, epoch, share.virtual_shard).tolist():
            shard_range, position, train_rows = ranges[index]
            own = _taken_before(share, first)
            yield _Range(number, index, shard_range, position, train_rows, first, own)
            first += train_rows

    def _plan(self, each: _Range, epoch: int, steps: int, done_steps: int) -> PlannedRead:
        task, share = self._task, self.shares[each.share]
        mask = task.validation_split.mask(each.position, each.position + each.shard_range.rows)
        train = np.flatnonzero(~mask)
        ordered = train[row_order(len(train), task.seed, epoch, share.virtual_shard, each.number)]
        step, column = np.divmod(np.arange(each.first, each.first + len(train)), share.width)
        taken = (step >= done_steps) & (step < steps)
        taken &= (column >= share.taken.start) & (column < share.taken.stop)
        return PlannedRead(each.share, each.shard_range, each.shard_range.start + ordered[taken], epoch)


def _taken_before(share: Share, rows: int) -> int:
    """Returns how many of the first `rows` rows of a virtual shard a share takes.

    >>> _taken_before(Share(0, 3, slice(1, 3), slice(0, 2)), 7)
    4
    """
    whole, rest = divmod(rows, share.width)
    width: int = share.taken.stop - share.taken.start
    start: int = share.taken.start
    return whole * width + min(max(rest - start, 0), width)


def _deal_pieces(task: FeedTask) -> list[list[RowRange]]:
    """Returns the positions of the split that each virtual shard reads, the same for every number of workers."""
    pieces = cut_pieces([shard.rows for shard in task.split.shards], task.pieces_per_shard)
    dealt = [pieces[index] for index in deal_pieces(len(pieces), task.seed)]
    return split_pieces(dealt, task.validation_split, task.batch_size)
