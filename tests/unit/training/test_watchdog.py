"""Tests when a watchdog ends a worker, and what it says."""

from __future__ import annotations

import threading
import time

import pytest

from cnnlib.training.watchdog import Watchdog


def test_a_worker_without_progress_ends_and_says_where_it_stands(capfd: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()
    watchdog = Watchdog(0.2, 3, end=ended.set)
    watchdog.doing("waits for the others")
    assert ended.wait(30)
    line = capfd.readouterr().err.splitlines()[-1]
    assert "hang rank=3" in line
    assert "waits for the others" in line


def test_progress_a_rest_a_stop_and_no_limit_end_nothing() -> None:
    ended = threading.Event()
    busy, stopped = Watchdog(5.0, 0, end=ended.set), Watchdog(0.3, 1, end=ended.set)
    stopped.stop()
    resting = Watchdog(0.3, 3, end=ended.set)
    resting.rest()
    Watchdog(0.0, 2, end=ended.set)
    for _ in range(10):
        busy.doing("trains")
        time.sleep(0.1)
    busy.stop()
    assert not ended.is_set()
    resting.doing("trains again, and hangs")
    assert ended.wait(30)


def test_items_are_followed_one_by_one() -> None:
    watchdog = Watchdog(0.0, 0)
    said: list[str] = []

    def items() -> object:
        for number in range(2):
            said.append((watchdog._state or ("",))[0])
            yield number

    for _ in watchdog.follow(items(), "epoch 2", wait="waits", use="trains"):  # type: ignore[arg-type]
        said.append((watchdog._state or ("",))[0])
    said.append((watchdog._state or ("",))[0])
    assert said == [
        "epoch 2, call 1: waits", "epoch 2, call 1: trains", "epoch 2, call 2: waits", "epoch 2, call 2: trains",
        "epoch 2: ends it with the other workers",
    ]  # fmt: skip
