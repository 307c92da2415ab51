"""Feeds a worker from memory: reads all shards once, keeps its rows, and gathers them in the order of each epoch."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.reader import read_positions
from cnnlib.dataset.record import Rows
from cnnlib.feed.feed import FeedTask, HostBatch
from cnnlib.feed.order import deal_rows, epoch_order, partition_bounds, worker_partitions

_VALIDATION_ROWS_AT_A_TIME = 4096


class MemoryFeed:
    """Feeds a worker from memory. Every epoch permutes the rows of each partition anew."""

    def __init__(self, task: FeedTask) -> None:
        """Reads the shards of the split, and keeps the worker's rows.

        Raises:
            DatasetError: a shard is missing or its bytes do not match the manifest.
        """
        self._task = task
        train, validation = _own_positions(task)
        self._num_train = len(train)
        self._rows = read_positions(
            task.dataset_uri, task.manifest, task.split, np.concatenate([train, validation])
        )

    def epoch(self, epoch: int, steps: int, steps_per_call: int) -> Generator[HostBatch]:
        """Implements `Feed.epoch`."""
        order = self._order(epoch)[:steps]
        return gather(self._rows, order, steps_per_call)

    def validation_rows(self) -> Iterator[Rows]:
        """Implements `Feed.validation_rows`."""
        for first in range(self._num_train, len(self._rows), _VALIDATION_ROWS_AT_A_TIME):
            yield self._rows.slice(first, first + _VALIDATION_ROWS_AT_A_TIME)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Returns the worker's rows of every step as indexes into them, int64 [steps, worker batch]."""
        task = self._task
        partitions = worker_partitions(task.batch_size, task.workers, task.rank)
        rows = task.validation_split.train_rows
        order = epoch_order(rows, task.batch_size, partitions, task.seed, epoch)
        # `order` counts the rows of all partitions; the worker's begin with its first partition.
        return order - partitions.start * rows // task.batch_size


def _own_positions(task: FeedTask) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the positions of the worker's training rows, in the order of its partitions, and validation rows."""
    split = task.validation_split
    mask = split.mask(0, split.num_rows)
    bounds = partition_bounds(split.train_rows, task.batch_size)
    partitions = worker_partitions(task.batch_size, task.workers, task.rank)
    dealt = deal_rows(split.train_rows, task.seed)[bounds[partitions.start] : bounds[partitions.stop]]
    first, last = (rank * split.count // task.workers for rank in (task.rank, task.rank + 1))
    return np.flatnonzero(~mask)[dealt], np.flatnonzero(mask)[first:last]


def gather(rows: Rows, order: npt.NDArray[np.int64], steps_per_call: int) -> Generator[HostBatch]:
    """Yields the batches of several steps at a time.

    Args:
        order: the rows of every step as indexes into `rows`, int64 [steps, worker batch].
        steps_per_call: steps of every `HostBatch`; the last may have fewer.
    """
    for first in range(0, len(order), steps_per_call):
        indexes = order[first : first + steps_per_call]
        yield HostBatch(images=rows.images[indexes], labels=rows.labels[indexes], ids=rows.ids[indexes])
