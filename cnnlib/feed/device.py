"""Copies batches in host memory to a device, as macro-batches.

This is the only file that knows both NumPy rows and tensors. A macro-batch holds the batches of several steps, stacked,
and one call of the compiled training function consumes it. A thread prepares and copies the next ones meanwhile.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from cnnlib.feed.feed import HostBatch

_PREFETCH = 2  # the most macro-batches that are ready on the device


@dataclass(frozen=True, kw_only=True)
class MacroBatch:
    """Holds one worker's batches of several steps, on a device.

    Attributes:
        images: uint8 tensor [steps, worker batch, height, width, channels].
        labels: int32 tensor [steps, worker batch].
        steps: number of steps.
        waited_s: seconds that the consumer waited for it.
    """

    images: tf.Tensor
    labels: tf.Tensor
    steps: int
    waited_s: float


def iter_macro_batches(batches: Generator[HostBatch], device: str) -> Iterator[MacroBatch]:
    """Yields macro-batches on a device, in order, while a thread prepares the next ones.

    Args:
        batches: the batches of an epoch. An error that it raises in the thread is raised here.
        device: the TensorFlow device of the tensors, for example `/device:GPU:0`.
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
        except BaseException as err:  # the consumer raises it
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
    images: tf.Tensor
    labels: tf.Tensor
    steps: int


def _put(
    ready: queue.Queue[_Ready | BaseException | None],
    item: _Ready | BaseException | None,
    stopped: threading.Event,
) -> bool:
    """Puts an item into the queue; returns False if the consumer stopped before there was room."""
    while not stopped.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
