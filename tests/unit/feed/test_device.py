"""Batches in host memory become macro-batches on a device, in their order."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from cnnlib.dataset.record import Rows
from cnnlib.feed.device import iter_macro_batches
from cnnlib.feed.memory import gather

pytestmark = pytest.mark.usefixtures("strategy")

CPU = "/device:CPU:0"
ROWS = Rows(
    ids=np.arange(40),
    images=np.random.default_rng(0).integers(0, 256, (40, 4, 3, 1), np.uint8),
    labels=np.arange(40, dtype=np.int32),
)


def filling_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "macro-batches"}


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


def test_consumer_that_stops_early_leaves_no_thread_behind() -> None:
    before = filling_threads()  # of earlier tests, which may be about to end
    batches = iter_macro_batches(gather(ROWS, np.zeros((30, 2), np.int64), 1), CPU)
    next(batches)
    assert len(filling_threads() - before) == 1
    batches.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while filling_threads() - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert filling_threads() - before == set()
