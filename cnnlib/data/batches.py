"""Rows in memory in, device-ready macro-batches out: the only file that knows both NumPy rows and tensors.

A macro-batch is what one call of the compiled training function consumes: several steps' batches, stacked. While
one is computed the next is gathered and copied, in a thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cnnlib.data.record import Rows

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


def iter_macro_batches(
    rows: Rows, order: npt.NDArray[np.int64], steps_per_call: int, device: str
) -> Iterator[MacroBatch]:
    """Yields the macro-batches of one epoch.

    Args:
        rows: the worker's training rows.
        order: indexes into `rows`, int64 [steps, worker batch].
        steps_per_call: steps of a macro-batch; the last may have fewer.
        device: where the tensors go, as `/device:GPU:0`.
    """
    parts = [order[first : first + steps_per_call] for first in range(0, len(order), steps_per_call)]
    ready: queue.Queue[tuple[Any, Any] | BaseException] = queue.Queue(maxsize=_PREFETCH)
    stopped = threading.Event()

    def fill() -> None:
        try:
            for part in parts:
                with tf.device(device):
                    tensors = tf.constant(rows.images[part]), tf.constant(rows.labels[part])
                if not _put(ready, tensors, stopped):
                    return
        except BaseException as err:  # handed to the consumer, which raises it
            _put(ready, err, stopped)

    threading.Thread(target=fill, name="macro-batches", daemon=True).start()
    try:
        for part in parts:
            started = time.perf_counter()
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield MacroBatch(
                images=item[0], labels=item[1], steps=len(part), waited_s=time.perf_counter() - started
            )
    finally:
        stopped.set()


def _put(ready: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
