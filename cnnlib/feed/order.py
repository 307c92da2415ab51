"""Computes the order of rows: which row fills which position of which global batch in an epoch.

This is pure arithmetic on counts, a seed and an epoch. The training rows are cut into `batch_size` *partitions*,
contiguous ranges of rows. Every epoch shuffles each partition anew, and each partition fills one position of every
global batch. A worker owns contiguous partitions, hence a contiguous range of rows, and needs no other rows. So a
global batch holds the same rows for any number of workers.

Partitions differ in length by at most one row. An epoch has `rows // batch_size` steps, so a longer partition leaves
one row out in each epoch, a random one: the remainder of an epoch rotates.

Rows that do not fit into memory are streamed, and cannot be picked one by one. There, several neighbouring partitions
are one *virtual shard*. It reads its range of rows one shard range after the other, in an order that is new every
epoch, and shuffles the rows of each shard range anew every epoch. Workers own contiguous virtual shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_MIN_VIRTUAL_SHARDS = 16
_RANGES, _ROWS = 1, 2  # part of a generator's seed, so that no two draws share one


@dataclass(frozen=True, kw_only=True)
class ValidationSplit:
    """Chooses the validation rows of a split: `count` of `num_rows` positions, evenly spaced.

    The i-th is at position (2 i + 1) num_rows // (2 count). So the validation rows of any range are counted without a
    list of them.
    """

    num_rows: int
    count: int

    @classmethod
    def of(cls, num_rows: int, fraction: float) -> ValidationSplit:
        """Builds the split that keeps round(num_rows * fraction) rows from training."""
        return cls(num_rows=num_rows, count=round(num_rows * fraction))

    @property
    def train_rows(self) -> int:
        """Returns the number of training rows."""
        return self.num_rows - self.count

    def below(self, position: int) -> int:
        """Returns the number of validation rows before a position."""
        return (2 * self.count * position + self.num_rows - 1) // (2 * self.num_rows)

    def mask(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Returns which of the positions [start, stop) are validation rows, bool [stop - start]."""
        below = (2 * self.count * np.arange(start, stop + 1) + self.num_rows - 1) // (2 * self.num_rows)
        return np.diff(below) > 0

    def train_below(self, position: int) -> int:
        """Returns the number of training rows before a position."""
        return position - self.below(position)

    def position(self, index: int) -> int:
        """Returns the position of a training row by its index among the training rows; num_rows after the last."""
        low, high = index, self.num_rows
        # Bisection for the first position p with more than `index` training rows in [0, p].
        while low < high:
            middle = (low + high) // 2
            if self.train_below(middle + 1) > index:
                high = middle
            else:
                low = middle + 1
        return low


class RowRange(NamedTuple):
    """Holds the positions [start, stop) of a split."""

    start: int
    stop: int


def split_rows(validation_split: ValidationSplit, num_ranges: int) -> list[RowRange]:
    """Returns contiguous ranges of a split, whose numbers of training rows differ by at most one.

    Every position belongs to exactly one range. The validation rows are the same for any number of ranges.
    """
    rows = validation_split.train_rows
    inner = [validation_split.position(index * rows // num_ranges) for index in range(1, num_ranges)]
    bounds = [0, *inner, validation_split.num_rows]
    return [RowRange(start, stop) for start, stop in pairwise(bounds)]


def num_virtual_shards(batch_size: int, workers: int) -> int:
    """Returns the least number from 16 upwards that divides the batch size and is a multiple of `workers`.

    So the order of streamed rows is the same for every number of workers that divides 16, if 16 divides the batch
    size. For a batch of less than 16 rows it is the batch size.
    """
    least = min(max(_MIN_VIRTUAL_SHARDS, workers), batch_size)
    return next(
        count for count in range(least, batch_size + 1) if batch_size % count == 0 and count % workers == 0
    )


def range_order(num_ranges: int, seed: int, epoch: int, virtual_shard: int) -> Positions:
    """Returns the order in which a virtual shard reads its shard ranges in an epoch, int64 [num_ranges]."""
    return np.random.default_rng([seed, epoch, virtual_shard, _RANGES]).permutation(num_ranges)


def row_order(num_rows: int, seed: int, epoch: int, virtual_shard: int, range_index: int) -> Positions:
    """Returns the order of the training rows of one shard range in an epoch, int64 [num_rows]."""
    return np.random.default_rng([seed, epoch, virtual_shard, _ROWS, range_index]).permutation(num_rows)


def partition_bounds(num_rows: int, batch_size: int) -> Positions:
    """Returns the bounds of the partitions, int64 [batch_size + 1].

    Partition j owns the training rows [bounds[j], bounds[j + 1]).
    """
    return np.arange(batch_size + 1, dtype=np.int64) * num_rows // batch_size


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Returns the number of whole global batches in an epoch."""
    return num_rows // batch_size


def epoch_order(num_rows: int, batch_size: int, partitions: range, seed: int, epoch: int) -> Positions:
    """Returns the training rows of every step of an epoch, one column per partition.

    A column is a permutation of its partition's rows, less one row where the partition has more rows than there are
    steps. It depends only on the seed, the epoch and the partition.

    Args:
        num_rows: training rows of the whole split.
        batch_size: rows of a global batch.
        partitions: the partitions of one worker, or of all.
        seed: the run's seed.
        epoch: the number of the epoch, from 1.

    Returns:
        Indexes into the training rows, int64 [steps, partitions].
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
    """Returns the partitions of one worker: batch_size / workers of them, contiguous."""
    count = batch_size // workers
    return range(rank * count, (rank + 1) * count)
