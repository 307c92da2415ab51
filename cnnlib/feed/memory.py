"""Feeds a worker from memory: reads its rows once, and gathers them in the order of each epoch."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.reader import read_rows
from cnnlib.dataset.record import Rows
from cnnlib.feed.feed import FeedTask, HostBatch
from cnnlib.feed.order import epoch_order, split_rows, worker_partitions

_VALIDATION_ROWS_AT_A_TIME = 4096


class MemoryFeed:
    """Feeds a worker from memory. Every epoch permutes the rows of each partition anew."""

    def __init__(self, task: FeedTask) -> None:
        """Reads the worker's rows.

        Raises:
            DatasetError: a shard is missing or its bytes do not match the manifest.
        """
        own = split_rows(task.validation_split, task.workers)[task.rank]
        mask = task.validation_split.mask(own.start, own.stop)
        self._task = task
        self._rows = read_rows(task.dataset_uri, task.manifest, task.split, own.start, own.stop)
        self._train, self._validation = np.flatnonzero(~mask), np.flatnonzero(mask)

    def epoch(self, epoch: int, steps: int, steps_per_call: int) -> Generator[HostBatch]:
        """Implements `Feed.epoch`."""
        order = self._order(epoch)[:steps]
        return gather(self._rows, order, steps_per_call)

    def validation_rows(self) -> Iterator[Rows]:
        """Implements `Feed.validation_rows`."""
        for first in range(0, len(self._validation), _VALIDATION_ROWS_AT_A_TIME):
            yield self._rows.take(self._validation[first : first + _VALIDATION_ROWS_AT_A_TIME])

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Returns the worker's rows of every step as indexes into them, int64 [steps, worker batch]."""
        task = self._task
        partitions = worker_partitions(task.batch_size, task.workers, task.rank)
        rows = task.validation_split.train_rows
        order = epoch_order(rows, task.batch_size, partitions, task.seed, epoch)
        # `order` counts training rows of the whole split; the worker's begin where its first partition begins.
        return self._train[order - partitions.start * rows // task.batch_size]


def gather(rows: Rows, order: npt.NDArray[np.int64], steps_per_call: int) -> Generator[HostBatch]:
    """Yields the batches of several steps at a time.

    Args:
        order: the rows of every step as indexes into `rows`, int64 [steps, worker batch].
        steps_per_call: steps of every `HostBatch`; the last may have fewer.
    """
    for first in range(0, len(order), steps_per_call):
        indexes = order[first : first + steps_per_call]
        yield HostBatch(images=rows.images[indexes], labels=rows.labels[indexes], ids=rows.ids[indexes])
