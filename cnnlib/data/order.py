"""Which row stands where in which global batch: pure arithmetic on (rows, batch size, seed, epoch).

The global batch has `batch_size` *lanes*. A lane owns a contiguous range of the training rows, shuffles it anew
every epoch, and gives one row to every global batch. So global batch k holds the same rows however many workers
there are: a worker owns a contiguous range of lanes, hence a contiguous range of rows, and needs no other rows.

Lanes differ in length by at most one row. An epoch has `rows // batch_size` steps; a longer lane leaves one row
out, another one each epoch: the remainder of the last global batch rotates by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]


class WorkerRows(NamedTuple):
    """The rows of one worker, as positions in the split.

    Attributes:
        start: first position the worker reads.
        stop: position after its last; the next worker's start.
        train: positions it trains on, ascending, int64 [n].
        validation: positions it holds out, ascending, int64 [m].
    """

    start: int
    stop: int
    train: Positions
    validation: Positions


def held_out_positions(num_rows: int, fraction: float) -> Positions:
    """Positions held out for validation: round(num_rows * fraction) of them, evenly spaced, ascending."""
    count = round(num_rows * fraction)
    return ((np.arange(count) + 0.5) * num_rows / max(count, 1)).astype(np.int64)


def split_rows(num_rows: int, fraction: float, batch_size: int, workers: int) -> list[WorkerRows]:
    """Deals a split's rows to workers, in order of rank.

    Every position belongs to exactly one worker; which positions train and which are held out does not depend on
    the number of workers.
    """
    held_out = held_out_positions(num_rows, fraction)
    train = np.delete(np.arange(num_rows, dtype=np.int64), held_out)
    bounds = lane_bounds(len(train), batch_size)[:: batch_size // workers]
    starts = [0, *(int(train[bound]) for bound in bounds[1:-1]), num_rows]
    return [
        WorkerRows(
            start=start,
            stop=stop,
            train=train[low:high],
            validation=held_out[(held_out >= start) & (held_out < stop)],
        )
        for start, stop, low, high in zip(starts, starts[1:], bounds, bounds[1:], strict=False)
    ]


def lane_bounds(num_rows: int, batch_size: int) -> Positions:
    """Bounds of the lanes, int64 [batch_size + 1]: lane j owns the training rows [bounds[j], bounds[j + 1])."""
    return np.arange(batch_size + 1, dtype=np.int64) * num_rows // batch_size


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Whole global batches in an epoch."""
    return num_rows // batch_size


def epoch_order(num_rows: int, batch_size: int, lanes: range, seed: int, epoch: int) -> Positions:
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
    bounds = lane_bounds(num_rows, batch_size)
    steps = steps_per_epoch(num_rows, batch_size)
    order = np.empty((steps, len(lanes)), np.int64)
    for column, lane in enumerate(lanes):
        rng = np.random.default_rng([seed, epoch, lane])
        order[:, column] = bounds[lane] + rng.permutation(bounds[lane + 1] - bounds[lane])[:steps]
    return order


def worker_lanes(batch_size: int, workers: int, rank: int) -> range:
    """The lanes of one worker: batch_size / workers of them, contiguous."""
    width = batch_size // workers
    return range(rank * width, (rank + 1) * width)
