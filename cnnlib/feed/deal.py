"""Says which worker each row of a split goes to when rows are kept in memory. Pure arithmetic, like order.py.

Every row goes to exactly one worker: a training row to the worker of its partition, and of the validation rows each
worker gets a contiguous part. A worker receives its rows in the order of their positions, whoever reads them and in
however many blocks. From the same arithmetic it knows which row it received where.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnnlib.feed.feed import FeedTask
from cnnlib.feed.order import Positions, deal_rows, partition_bounds


def own_positions(task: FeedTask) -> tuple[Positions, Positions]:
    """Returns the positions of the worker's training rows, in the order of its partitions, and of its validation rows.

    Both are int64 [rows].
    """
    train, validation = _dealt(task)
    return tuple(  # type: ignore[return-value]
        positions[bounds[task.rank] : bounds[task.rank + 1]] for positions, bounds in (train, validation)
    )


def row_owners(task: FeedTask) -> npt.NDArray[np.int32]:
    """Returns the rank of the worker that each row of the split goes to, int32 [rows], whatever the task's own rank."""
    owners = np.empty(task.validation_split.num_rows, np.int32)
    ranks = np.arange(task.workers, dtype=np.int32)
    for positions, bounds in _dealt(task):
        owners[positions] = np.repeat(ranks, np.diff(bounds))
    return owners


def sort_by_owner(owners: npt.NDArray[np.int32], workers: int) -> tuple[Positions, Positions]:
    """Returns rows ordered by worker and then by position, and where each worker's rows begin in that order.

    Args:
        owners: the rank of the worker that each row goes to, int32 [rows].

    Returns:
        Indexes of the rows, int64 [rows], and bounds, int64 [workers + 1]: worker r has [bounds[r], bounds[r + 1]).

    >>> [each.tolist() for each in sort_by_owner(np.array([1, 0, 1, 0], np.int32), 3)]
    [[1, 3, 0, 2], [0, 2, 4, 4]]
    """
    bounds = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=workers))])
    return np.argsort(owners, kind="stable"), bounds


def received_indexes(positions: Positions) -> Positions:
    """Returns where each of a worker's rows is among those that it receives, int64 [rows].

    Args:
        positions: the positions of all rows of the worker, in any order.

    >>> received_indexes(np.array([70, 10, 40])).tolist()
    [2, 0, 1]
    """
    indexes = np.empty(len(positions), np.int64)
    indexes[np.argsort(positions)] = np.arange(len(positions))
    return indexes


def _dealt(task: FeedTask) -> tuple[tuple[Positions, Positions], tuple[Positions, Positions]]:
    """Returns the positions of training rows and of validation rows, as they are dealt, each with the workers' bounds.

    Worker r has the positions [bounds[r], bounds[r + 1]); bounds are int64 [workers + 1].
    """
    split, workers = task.validation_split, np.arange(task.workers + 1, dtype=np.int64)
    mask = split.mask(0, split.num_rows)
    train = np.flatnonzero(~mask)[deal_rows(split.train_rows, task.seed)]
    train_bounds = partition_bounds(split.train_rows, task.batch_size)[workers * task.worker_batch_size]
    return (train, train_bounds), (np.flatnonzero(mask), workers * split.count // task.workers)
