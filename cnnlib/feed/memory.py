"""Feeds a worker from memory: keeps the rows that were dealt to it, and gathers them in the order of each epoch."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.record import Rows
from cnnlib.errors import RowCountError
from cnnlib.feed.deal import own_positions, received_indexes
from cnnlib.feed.feed import FeedTask, HostBatch
from cnnlib.feed.order import epoch_order, worker_partitions

_VALIDATION_ROWS_AT_A_TIME, _VALIDATION_BYTES_AT_A_TIME = 4096, 16 * 2**20


class MemoryFeed:
    """Feeds a worker from memory. Every epoch permutes the rows of each partition anew."""

    def __init__(self, task: FeedTask, rows: Rows) -> None:
        """Takes the rows that the worker received.

        Args:
            rows: the worker's rows, in the order of their positions in the split.

        Raises:
            RowCountError: these are more or fewer rows than the manifest and the plan give to the worker.
        """
        train, validation = own_positions(task)
        if len(rows) != len(train) + len(validation):
            raise RowCountError(
                f"Worker {task.rank} received {len(rows)} of the {task.split.rows} rows of the split "
                f"{task.split_name}, expected {len(train) + len(validation)}. Run it again; if it fails again, "
                "prepare the dataset again."
            )
        self._task = task
        self._rows = rows
        indexes = received_indexes(np.concatenate([train, validation]))
        self._train, self._validation = indexes[: len(train)], indexes[len(train) :]

    def epoch(self, epoch: int, steps: int, steps_per_call: int, done_steps: int = 0) -> Generator[HostBatch]:
        """Implements `Feed.epoch`."""
        return gather(self._rows, self._order(epoch)[done_steps:steps], steps_per_call)

    def validation_rows(self) -> Iterator[Rows]:
        """Implements `Feed.validation_rows`."""
        row_bytes = math.prod(self._task.manifest.image_shape)
        count = max(1, min(_VALIDATION_ROWS_AT_A_TIME, _VALIDATION_BYTES_AT_A_TIME // row_bytes))
        for first in range(0, len(self._validation), count):
            yield self._rows.take(self._validation[first : first + count])

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Returns the worker's rows of every step as indexes into them, int64 [steps, worker batch]."""
        task = self._task
        partitions = worker_partitions(task.batch_size, task.workers, task.rank)
        rows = task.validation_split.train_rows
        order = epoch_order(rows, task.batch_size, partitions, task.seed, epoch)
        # `order` counts the rows of all partitions; the worker's begin with its first partition.
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
