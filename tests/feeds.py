"""Builds feeds without Ray: reads a worker's rows here, in the order in which the worker would receive them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial

from cnnlib.dataset.reader import read_positions
from cnnlib.dataset.record import Rows
from cnnlib.feed.deal import row_owners, sort_by_owner
from cnnlib.feed.feed import Feed, FeedTask
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.read import BlockReader
from cnnlib.feed.stream import StreamFeed
from cnnlib.feed.stream_plan import PlannedRead


def read_here(reader: Callable[[PlannedRead], Rows], reads: Iterable[PlannedRead]) -> Generator[Rows]:
    """Reads the blocks in this process, when they are asked for."""
    for read in reads:
        yield reader(read)


def build_feed(kind: type[Feed], task: FeedTask) -> Feed:
    """Builds the feed of one worker."""
    if kind is StreamFeed:
        return StreamFeed(task, partial(read_here, BlockReader.of(task)), last_epoch=3)
    order, bounds = sort_by_owner(row_owners(task), task.workers)
    own = order[bounds[task.rank] : bounds[task.rank + 1]]
    return MemoryFeed(task, read_positions(task.dataset_uri, task.manifest, task.split, own))
