"""Rows in memory become the batches of an epoch, in the order asked for."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cnnlib.data.batches import iter_macro_batches
from cnnlib.data.feed import FeedTask
from cnnlib.data.memory import gather
from cnnlib.data.record import Rows
from cnnlib.data.stream import StreamFeed
from tests.datasets import make_source, write_dataset_without_ray

pytestmark = pytest.mark.usefixtures("strategy")

CPU = "/device:CPU:0"
ROWS = Rows(
    ids=np.arange(40),
    images=np.random.default_rng(0).integers(0, 256, (40, 4, 3, 1), np.uint8),
    labels=np.arange(40, dtype=np.int32),
)


def filling_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "macro-batches"]


@pytest.mark.parametrize(
    ("steps", "per_call", "expected"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 25, [2]), (0, 25, [])]
)
def test_batches_hold_the_rows_of_the_order(steps: int, per_call: int, expected: list[int]) -> None:
    order = np.random.default_rng(1).permutation(40)[: steps * 5].reshape(steps, 5)
    batches = list(iter_macro_batches(gather(ROWS, order, per_call), CPU))
    assert [batch.steps for batch in batches] == expected
    if batches:
        np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), ROWS.labels[order])
        np.testing.assert_array_equal(np.concatenate([batch.images for batch in batches]), ROWS.images[order])
    for batch in batches:
        assert (batch.images.dtype.name, batch.labels.dtype.name) == ("uint8", "int32")
        assert batch.images.shape == (batch.steps, 5, 4, 3, 1)
        assert batch.images.device.endswith("CPU:0")
        assert batch.waited_s >= 0


def test_error_while_gathering_reaches_the_consumer() -> None:
    order = np.array([[0, 1], [2, 40]])
    batches = iter_macro_batches(gather(ROWS, order, 1), CPU)
    assert next(batches).labels.numpy().tolist() == [[0, 1]]
    with pytest.raises(IndexError):
        next(batches)


def test_consumer_that_leaves_early_leaves_no_thread_behind() -> None:
    batches = iter_macro_batches(gather(ROWS, np.zeros((30, 2), np.int64), 1), CPU)
    next(batches)
    assert len(filling_threads()) == 1
    batches.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while filling_threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert filling_threads() == []


def test_twenty_streamed_epochs_leave_nothing_behind(tmp_path: Path) -> None:
    rows, size = 3200, 56
    source = make_source(train_rows=rows, image_shape=(size, size, 1))
    manifest = write_dataset_without_ray(str(tmp_path), source, shard_rows=200)
    feed = StreamFeed(
        FeedTask(
            dataset_uri=str(tmp_path),
            manifest=manifest,
            split_name="train",
            batch_size=32,
            validation_fraction=0.1,
        )
    )

    def run(epoch: int) -> None:
        batches = iter_macro_batches(feed.epoch(epoch, 90, 25), CPU)
        assert sum(batch.steps for batch in batches) == 90
        assert sum(len(some) for some in feed.held_out()) == 320

    def state() -> tuple[int, int, int]:
        gc.collect()
        pa.default_memory_pool().release_unused()  # or memory that is free, but kept for later, would count
        ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return threading.active_count(), len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")

    for epoch in range(1, 4):
        run(epoch)
    threads_then, open_files_then, memory_then = state()
    for epoch in range(4, 21):
        run(epoch)
    threads, open_files, memory = state()
    assert (threads, open_files) == (threads_then, open_files_then)
    # An epoch's pixels are 10 MB; if each of the 17 left a third of them behind, this would fail. TensorFlow itself
    # fills caches of some 25 MB in its first 30 epochs, whatever their size: docs/scaling.md.
    assert memory - memory_then < 17 * size * size * rows / 3
