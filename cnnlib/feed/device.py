"""Macro-batches in host memory in, on the device out: the only file that knows both NumPy rows and tensors.

A macro-batch is what one call of the compiled training function consumes: several steps' batches, stacked. While
one is computed the next is put together and copied, in a thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from cnnlib.feed.feed import HostBatch

_PREFETCH = 2


@dataclass(frozen=True, kw_only=True)
class MacroBatch:
    """Some steps' batches of one worker.

    Attributes:
        images: uint8 tensor [steps, worker batch, height, width, channels].
        labels: int32 tensor [steps, worker batch].
        steps: how many.
        waited_s: how long the consumer waited for it, in seconds.
    """

    images: Any
    labels: Any
    steps: int
    waited_s: float


def iter_macro_batches(batches: Generator[HostBatch], device: str) -> Iterator[MacroBatch]:
    """Yields macro-batches on a device, in order; the batches are drawn in a thread, some ahead.

    Args:
        batches: an epoch's. Whatever it raises is raised here.
        device: where the tensors go, as `/device:GPU:0`.
    """
    ready: queue.Queue[_Ready | BaseException | None] = queue.Queue(maxsize=_PREFETCH)
    stopped = threading.Event()

    def fill() -> None:
        try:
            with closing(batches):
                for batch in batches:
                    with tf.device(device):
                        item = _Ready(tf.constant(batch.images), tf.constant(batch.labels), len(batch.labels))
                    if not _put(ready, item, stopped):
                        return
            _put(ready, None, stopped)
        except BaseException as err:  # handed to the consumer, which raises it
            _put(ready, err, stopped)

    thread = threading.Thread(target=fill, name="macro-batches", daemon=True)
    thread.start()
    try:
        while True:
            started = time.perf_counter()
            item = ready.get()
            waited_s = time.perf_counter() - started
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield MacroBatch(images=item.images, labels=item.labels, steps=item.steps, waited_s=waited_s)
    finally:
        stopped.set()
        thread.join()


class _Ready(NamedTuple):
    images: Any
    labels: Any
    steps: int


def _put(ready: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
