"""Reads the blocks of a stream in tasks of the cluster, a bounded number ahead, in the order of need.

A worker that streams has this as its dataset shard of Ray Train. Every block is the result of one task, which reads a
shard, checks it, decodes its images and crops them; the worker opens no shard. Tasks run on machines whose CPUs the
training leaves free, where there are any, else on those of the worker. They take no CPU of the cluster's count, so a
training that fills the cluster has its rows, too, and one job never waits for another's reads.

Ray Data's streaming executor is not used: it is one more process per dataset, starts anew for every plan, and its
`streaming_split` gives a block to the worker that asks first. Here the plan says whose block it is.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.data import DataContext, DataIterator
from ray.data._internal.execution.interfaces import BlockEntry, RefBundle
from ray.data.block import BlockMetadata
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cnnlib.cluster.local import in_local_mode
from cnnlib.cluster.machines import cpus_of_machines
from cnnlib.dataset.record import Rows, row_schema, rows_to_table, table_to_rows
from cnnlib.feed.feed import FeedTask
from cnnlib.feed.read import BlockReader
from cnnlib.feed.stream_plan import PlannedRead

AHEAD_BYTES = 128 * 2**20
"""Bytes of pixels that a worker has asked for and not used yet: at most so many, but at least two blocks."""


@dataclass(frozen=True, kw_only=True)
class ReadTasks:
    """Reads the blocks of one worker.

    Attributes:
        machines: node ids on which its tasks run in turn, one entry for each task that runs at a time.
    """

    reader: BlockReader
    machines: Sequence[str]

    def read(self, reads: Iterable[PlannedRead]) -> Generator[Rows]:
        """Yields the rows of planned reads, in their order.

        Raises:
            RayTaskError: a task failed; its cause says why.
        """
        bundles, _, _ = self.blocks(reads)._to_ref_bundle_iterator()
        for bundle in bundles:
            yield table_to_rows(ray.get(bundle.block_refs[0]), self.reader.image_shape)

    def blocks(self, reads: Iterable[PlannedRead]) -> PlannedBlocks:
        """Returns the blocks of planned reads as an iterator of Ray Data."""
        return PlannedBlocks(self, reads)


class PlannedBlocks(DataIterator):  # type: ignore[misc]
    """Iterates once over the blocks of planned reads, in order, without an executor of Ray Data."""

    def __init__(self, tasks: ReadTasks, reads: Iterable[PlannedRead]) -> None:
        self._tasks = tasks
        self._reads = reads
        self._schema = row_schema(tasks.reader.image_shape)

    def _to_ref_bundle_iterator(self) -> tuple[Iterator[RefBundle], None, None]:
        return self._bundles(), None, None

    def _bundles(self) -> Generator[RefBundle]:
        """Asks for blocks ahead of the one that it yields."""
        reader = ray.put(self._tasks.reader)
        row_bytes = math.prod(self._tasks.reader.image_shape)
        machines = itertools.cycle(self._tasks.machines)
        task = ray.remote(num_cpus=0, num_returns=2)(_read_block)
        ended: deque[ray.ObjectRef] = deque(maxlen=len(self._tasks.machines))
        asked: deque[tuple[ray.ObjectRef, int]] = deque()
        for read in self._reads:
            # As many tasks at a time as there are entries: each waits for an earlier one.
            earlier = ended[0] if len(ended) == ended.maxlen else None
            strategy = NodeAffinitySchedulingStrategy(next(machines), soft=True)
            done, block = task.options(scheduling_strategy=strategy).remote(reader, read, earlier)
            ended.append(done)
            asked.append((block, len(read.rows)))
            while len(asked) > 2 and sum(rows for _, rows in asked) * row_bytes > AHEAD_BYTES:
                yield self._bundle(*asked.popleft())
        while asked:
            yield self._bundle(*asked.popleft())

    def _bundle(self, block: ray.ObjectRef, rows: int) -> RefBundle:
        size = rows * math.prod(self._tasks.reader.image_shape)
        metadata = BlockMetadata(num_rows=rows, size_bytes=size, exec_stats=None)
        return RefBundle([BlockEntry(block, metadata)], schema=self._schema, owns_blocks=True)

    def stats(self) -> str:
        """Returns nothing: no executor of Ray Data runs."""
        return ""

    def schema(self) -> Any:
        """Returns the schema of the blocks."""
        return self._schema

    def get_context(self) -> DataContext:
        """Returns a context in which blocks keep their order."""
        context = DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        return context


@dataclass(frozen=True, kw_only=True)
class StreamedRows:
    """The rows of all workers, each of which has its own read when it needs them.

    Attributes:
        cpus_per_worker: CPUs that a worker takes of the machine on which it runs.
    """

    task: FeedTask
    cpus_per_worker: int

    def have_failed(self) -> bool:
        """Returns False: nothing has been read."""
        return False

    def for_workers(self, nodes: Sequence[str]) -> list[ReadTasks]:
        """Returns what reads the rows of each worker, for the machines on which the workers run."""
        # A Ray of our own counts CPUs that its machine does not have.
        spare = {} if in_local_mode() else dict(cpus_of_machines())
        for node in nodes:
            spare[node] = spare.get(node, 0) - self.cpus_per_worker
        reader, shared = BlockReader.of(self.task), share_cpus(spare, nodes, self.cpus_per_worker)
        return [ReadTasks(reader=reader, machines=machines) for machines in shared]


def share_cpus(spare: Mapping[str, float], nodes: Sequence[str], cpus_per_worker: int) -> list[list[str]]:
    """Deals the CPUs that no worker takes to the workers, for their tasks; returns node ids, one for each CPU.

    A worker gets a CPU of its own machine first. If it gets none, its tasks share its own CPUs with it: they wait while
    enough blocks are ahead, so they take no more than it needs.

    Args:
        spare: CPUs of each machine that no worker takes.
        nodes: the machine of each worker.
        cpus_per_worker: CPUs of each worker.

    >>> share_cpus({"a": 1, "b": 0, "c": 4}, ["a", "b"], 2)
    [['a', 'c', 'c'], ['c', 'c']]
    >>> share_cpus({"a": 0}, ["a", "a"], 2)
    [['a', 'a'], ['a', 'a']]
    """
    left = {node: int(cpus) for node, cpus in spare.items() if cpus >= 1}
    dealt: list[list[str]] = [[] for _ in nodes]
    for own, node in zip(dealt, nodes, strict=True):
        if left.get(node):
            left[node] -= 1
            own.append(node)
    others = [node for node, cpus in left.items() for _ in range(cpus)]
    for index, node in enumerate(others):
        dealt[
            min(range(len(nodes)), key=lambda rank: (len(dealt[rank]), (rank - index) % len(nodes)))
        ].append(node)
    return [own or [node] * max(1, cpus_per_worker) for own, node in zip(dealt, nodes, strict=True)]


def _read_block(reader: BlockReader, read: PlannedRead, earlier: object) -> list[object]:
    """Returns the number of rows of a block, and the block."""
    del earlier
    rows = reader(read)
    return [len(rows), rows_to_table(rows)]
