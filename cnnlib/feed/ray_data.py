"""Moves the rows of a split to the workers as blocks of Ray Data, each worker its own: deal.py says which.

In comes a task, out come the rows of each worker as a `DataIterator`, which Ray Train calls the worker's dataset shard.
Every shard object is read once, and its digest checked; the blocks stay in the object store, so workers that start
again read nothing. Nothing is dropped and nothing waits for a consumer, unlike with `streaming_split`.

- On a Ray of our own the driver reads, and cuts one block per worker: a process that reads would take longer to start.
- On a given cluster there is one read task per shard object. It gives each worker one block, so no machine ever holds
  more than it needs. A read task takes no CPU of the cluster's count, because it reads while the workers start: so a
  training that fills the cluster has its rows, too.

Neither starts an executor of Ray Data, whose actors would take seconds of CPU while the workers start.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.data import DataContext, DataIterator
from ray.data._internal.execution.interfaces import BlockEntry, RefBundle
from ray.data.block import BlockMetadata
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cnnlib.cluster.machines import machines_with_cpus
from cnnlib.dataset.manifest import Manifest, ShardRange, whole_shard
from cnnlib.dataset.reader import read_positions, read_range
from cnnlib.dataset.record import Rows, row_schema, rows_to_table, table_to_rows
from cnnlib.feed.deal import row_owners, sort_by_owner
from cnnlib.feed.feed import FeedTask
from cnnlib.shapes import ImageShape


@dataclass(frozen=True, kw_only=True)
class DealtRows:
    """The rows of all workers, in the object store or on their way there.

    Attributes:
        of_rank: the rows of each worker.
        reads: one reference per read task, which holds an error if the task failed; none where the driver has read.
    """

    of_rank: Sequence[WorkerRows]
    reads: Sequence[ray.ObjectRef] = ()

    def for_workers(self, nodes: Sequence[str]) -> Sequence[WorkerRows]:
        """Returns the rows of each worker, wherever they run."""
        del nodes
        return self.of_rank

    def have_failed(self) -> bool:
        """Returns whether a task that has ended could not read: the rows must then be dealt again."""
        if not self.reads:
            return False
        ended, _ = ray.wait(list(self.reads), num_returns=len(self.reads), timeout=0)
        try:
            ray.get(ended)
        except RayError:
            return True
        return False


class WorkerRows(DataIterator):  # type: ignore[misc]
    """Iterates over the blocks that were dealt to one worker, in order, without an executor of Ray Data."""

    def __init__(self, blocks: Sequence[tuple[ray.ObjectRef, int]], image_shape: ImageShape) -> None:
        """Takes references to tables, and the number of rows of each."""
        self._schema = row_schema(image_shape)
        row_bytes = math.prod(image_shape)
        self._bundles = [
            RefBundle(
                [BlockEntry(ref, BlockMetadata(num_rows=rows, size_bytes=rows * row_bytes, exec_stats=None))],
                schema=self._schema,
                owns_blocks=False,  # another start of the workers needs them
            )
            for ref, rows in blocks
        ]

    def _to_ref_bundle_iterator(self) -> tuple[Iterator[RefBundle], None, None]:
        return iter(self._bundles), None, None

    def stats(self) -> str:
        """Returns nothing: nothing was executed."""
        return ""

    def schema(self) -> pa.Schema:
        """Returns the schema of the blocks."""
        return self._schema

    def get_context(self) -> DataContext:
        """Returns a context in which blocks keep their order."""
        context = DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        return context


def deal_from_driver(task: FeedTask) -> DealtRows:
    """Reads a split in this process, and deals its rows to all workers of the task, one block for each.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
        RowCountError: a shard has another number of rows than the manifest states.
    """
    order, bounds = sort_by_owner(row_owners(task), task.workers)
    rows = read_positions(task.dataset_uri, task.manifest, task.split, order)
    cuts = bounds.tolist()
    dataset = ray.data.from_blocks([_to_table(rows, slice(*cut)) for cut in itertools.pairwise(cuts)])
    parts = dataset.split_at_indices(cuts[1:-1]) if task.workers > 1 else [dataset]
    return DealtRows(
        of_rank=[
            WorkerRows([(ref, stop - start) for ref in part.to_arrow_refs()], task.manifest.image_shape)
            for part, (start, stop) in zip(parts, itertools.pairwise(cuts), strict=True)
        ]
    )


def deal_from_tasks(task: FeedTask) -> DealtRows:
    """Starts one task per shard of the split, which deals its rows to all workers of the task; returns at once.

    An error of a task is raised where its rows are used: see `deal_from_driver`.
    """
    shape, owners = task.manifest.image_shape, row_owners(task)
    blocks: list[list[tuple[ray.ObjectRef, int]]] = [[] for _ in range(task.workers)]
    reads: list[ray.ObjectRef] = []
    manifest = ray.put(task.manifest)
    machines = itertools.cycle(machines_with_cpus())
    read = ray.remote(num_cpus=0, num_returns=1 + task.workers)(_read_and_deal)
    first = 0
    for index, shard in enumerate(task.split.shards):
        own = owners[first : first + shard.rows]
        # As many tasks at a time as there are workers: each waits for an earlier one.
        earlier = reads[-task.workers] if len(reads) >= task.workers else None
        done, *parts = read.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(next(machines), soft=True)
        ).remote(task.dataset_uri, manifest, whole_shard(index, shard), own, task.workers, earlier)
        reads.append(done)
        for rank, rows in enumerate(np.bincount(own, minlength=task.workers).tolist()):
            if rows:
                blocks[rank].append((parts[rank], rows))
        first += shard.rows
    return DealtRows(of_rank=[WorkerRows(each, shape) for each in blocks], reads=reads)


def collect_rows(received: DataIterator, image_shape: ImageShape) -> Rows:
    """Returns the rows that a worker received; without a copy if they are one block of this machine's object store.

    Raises:
        RayTaskError: a read task failed; its cause says why.
    """
    tables = list(received.iter_batches(batch_size=None, batch_format="pyarrow"))
    return table_to_rows(
        pa.concat_tables(tables) if tables else row_schema(image_shape).empty_table(), image_shape
    )


def _read_and_deal(
    dataset_uri: str,
    manifest: Manifest,
    shard_range: ShardRange,
    owners: npt.NDArray[np.int32],
    workers: int,
    earlier: object,
) -> list[object]:
    """Reads a shard; returns the number of its rows, then for each worker a table of its rows, or None."""
    del earlier
    rows = read_range(dataset_uri, manifest, shard_range)
    order, bounds = sort_by_owner(owners, workers)
    parts = [order[start:stop] for start, stop in itertools.pairwise(bounds.tolist())]
    return [len(rows), *(_to_table(rows, part) if len(part) else None for part in parts)]


def _to_table(rows: Rows, indexes: npt.NDArray[np.int64] | slice) -> pa.Table:
    """Returns some rows as a table, without metadata."""
    return rows_to_table(
        Rows(ids=rows.ids[indexes], images=rows.images[indexes], labels=rows.labels[indexes])
    )
