"""Which row stands where in which global batch: pure arithmetic on (rows, batch size, seed, epoch).

The global batch has `batch_size` *lanes*. A lane owns a contiguous range of the training rows, shuffles it anew
every epoch, and gives one row to every global batch. So global batch k holds the same rows however many workers
there are: a worker owns a contiguous range of lanes, hence a contiguous range of rows, and needs no other rows.

Lanes differ in length by at most one row. An epoch has `rows // batch_size` steps; a longer lane leaves one row
out, another one each epoch: the remainder of the last global batch rotates by itself.

Rows that are streamed, because they do not fit into memory, cannot be picked one by one. There several neighbouring
lanes are one *virtual shard*, which goes through its range file by file, in an order that is new every epoch, and
through each file's rows in an order that is new every epoch. Virtual shards are dealt to workers as lanes are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_MIN_VIRTUAL_SHARDS = 16
_FILES, _ROWS = 1, 2  # beside (seed, epoch, …), so that two draws are never the same one


@dataclass(frozen=True, kw_only=True)
class ValidationSplit:
    """Which positions of a split are held out for validation: `count` of `num_rows`, evenly spaced.

    The i-th lies at (2 i + 1) num_rows // (2 count), so that any range of positions is counted without a list.
    """

    num_rows: int
    count: int

    @classmethod
    def of(cls, num_rows: int, fraction: float) -> ValidationSplit:
        """round(num_rows * fraction) rows."""
        return cls(num_rows=num_rows, count=round(num_rows * fraction))

    @property
    def train_rows(self) -> int:
        """Rows that are trained on."""
        return self.num_rows - self.count

    def below(self, position: int) -> int:
        """How many are held out before a position."""
        return (2 * self.count * position + self.num_rows - 1) // (2 * self.num_rows)

    def mask(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which of the positions [start, stop) are held out, bool [stop - start]."""
        below = (2 * self.count * np.arange(start, stop + 1) + self.num_rows - 1) // (2 * self.num_rows)
        return np.diff(below) > 0

    def train_below(self, position: int) -> int:
        """How many training rows there are before a position."""
        return position - self.below(position)

    def position(self, index: int) -> int:
        """The position of a training row, given its index among the training rows; num_rows past the last."""
        low, high = index, self.num_rows
        while low < high:  # the first position that has more than `index` training rows up to and with itself
            middle = (low + high) // 2
            if self.train_below(middle + 1) > index:
                high = middle
            else:
                low = middle + 1
        return low


class RowRange(NamedTuple):
    """The positions [start, stop) of a split."""

    start: int
    stop: int


def split_rows(validation_split: ValidationSplit, parts: int) -> list[RowRange]:
    """Deals a split's rows in contiguous ranges, whose training rows differ in number by at most one.

    Every position belongs to exactly one range; which positions train and which are held out does not depend on
    the number of ranges.
    """
    rows = validation_split.train_rows
    inner = [validation_split.position(part * rows // parts) for part in range(1, parts)]
    bounds = [0, *inner, validation_split.num_rows]
    return [RowRange(start, stop) for start, stop in pairwise(bounds)]


def num_virtual_shards(batch_size: int, workers: int) -> int:
    """The least number of virtual shards, of 16 or more, that the batch divides by and the workers divide.

    So the order of streamed rows is the same for all numbers of workers that divide 16 (where 16 divides the batch).
    """
    least = min(max(_MIN_VIRTUAL_SHARDS, workers), batch_size)
    return next(
        count for count in range(least, batch_size + 1) if batch_size % count == 0 and count % workers == 0
    )


def file_order(num_files: int, seed: int, epoch: int, shard: int) -> Positions:
    """The order in which a virtual shard reads its files in an epoch, int64 [num_files]."""
    return np.random.default_rng([seed, epoch, shard, _FILES]).permutation(num_files)


def row_order(num_rows: int, seed: int, epoch: int, shard: int, file: int) -> Positions:
    """The order of the rows of one of its files in an epoch, int64 [num_rows]."""
    return np.random.default_rng([seed, epoch, shard, _ROWS, file]).permutation(num_rows)


def partition_bounds(num_rows: int, batch_size: int) -> Positions:
    """Bounds of the lanes, int64 [batch_size + 1]: lane j owns the training rows [bounds[j], bounds[j + 1])."""
    return np.arange(batch_size + 1, dtype=np.int64) * num_rows // batch_size


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Whole global batches in an epoch."""
    return num_rows // batch_size


def epoch_order(num_rows: int, batch_size: int, partitions: range, seed: int, epoch: int) -> Positions:
    """The order of one epoch for some lanes: indexes into the training rows, int64 [steps, len(lanes)].

    Column j is a permutation of lane j's rows (less one where the lane is longer), drawn from
    (seed, epoch, lane) alone.

    Args:
        num_rows: training rows of the whole split.
        batch_size: the global batch.
        lanes: the lanes of one worker, or of all.
        seed: the run's seed.
        epoch: which epoch, from 1.
    """
    bounds = partition_bounds(num_rows, batch_size)
    steps = steps_per_epoch(num_rows, batch_size)
    order = np.empty((steps, len(partitions)), np.int64)
    for column, partition in enumerate(partitions):
        rng = np.random.default_rng([seed, epoch, partition])
        order[:, column] = (
            bounds[partition] + rng.permutation(bounds[partition + 1] - bounds[partition])[:steps]
        )
    return order


def worker_partitions(batch_size: int, workers: int, rank: int) -> range:
    """The lanes of one worker: batch_size / workers of them, contiguous."""
    width = batch_size // workers
    return range(rank * width, (rank + 1) * width)
