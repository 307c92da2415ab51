"""Runs a function over many items in threads, for example to read many objects at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from cnnlib.cores import num_cores

REQUEST_THREADS = 16
"""Threads for small requests, which mostly wait: from a bucket, each answer takes tens of milliseconds."""
DECODE_THREADS = min(4, num_cores())
"""Threads for shards that are decoded as well: they compete for cores, and each holds a shard in memory."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def map_threads(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, threads: int = REQUEST_THREADS
) -> list[ResultT]:
    """Returns the function's result for every item, in the order of the items.

    An exception of the function is raised here; if there are several, that of the earliest item. Calls that have not
    started by then are not made.

    Args:
        threads: the most calls that run at the same time.

    >>> map_threads(len, ["a", "bcd", ""])
    [1, 3, 0]
    """
    with thread_pool(threads) as pool:
        return list(pool.map(function, items))


@contextmanager
def thread_pool(threads: int, name: str = "") -> Iterator[ThreadPoolExecutor]:
    """Yields a pool of threads, and waits for its calls at the end; but not if the process is told to end.

    A call may wait for storage for ever, as on a network disk whose server is gone. SIGTERM and Ctrl-C end a job all
    the same.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    except (SystemExit, KeyboardInterrupt):
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown()
        raise
    pool.shutdown()
