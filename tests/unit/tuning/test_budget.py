"""A search ends when its time is up, and a process without a search is not ended by it."""

from __future__ import annotations

import signal
import threading
import time

from cnnlib.tuning.budget import end_after


def test_a_search_that_listens_is_told_once_when_its_time_is_up() -> None:
    told: list[float] = []
    start = time.monotonic()
    before = signal.getsignal(signal.SIGUSR1)
    with end_after(0.05):
        time.sleep(0.4)  # the time is up before the search listens: nothing happens, and it is not forgotten
        signal.signal(signal.SIGUSR1, lambda *_: told.append(time.monotonic() - start))
        while not told and time.monotonic() - start < 20:
            time.sleep(0.01)
        time.sleep(0.5)
    assert len(told) == 1
    assert told[0] >= 0.4
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_search_that_ends_before_is_not_told() -> None:
    threads, told = threading.active_count(), []
    with end_after(30.0):
        signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
    assert (threading.active_count(), told) == (threads, [])


def test_without_a_limit_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with end_after(None):
        assert signal.getsignal(signal.SIGUSR1) == before
