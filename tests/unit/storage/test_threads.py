"""Tests a function that is mapped over items in threads."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from cnnlib.storage.threads import map_threads


def test_results_come_in_the_order_of_the_items() -> None:
    def wait_and_return(index: int) -> int:
        time.sleep(0.02 * (3 - index))
        return index

    assert map_threads(wait_and_return, range(4)) == [0, 1, 2, 3]


def test_no_items_give_no_results() -> None:
    assert map_threads(len, []) == []


def test_as_many_calls_run_at_the_same_time_as_there_are_threads() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def count(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    map_threads(count, range(12), threads=3)
    assert most == 3


def test_error_of_the_earliest_item_is_raised_and_the_rest_is_not_called() -> None:
    called = []

    def fail(index: int) -> None:
        called.append(index)
        time.sleep(0.01)
        raise ValueError(f"item {index}")

    with pytest.raises(ValueError, match="item 0"):
        map_threads(fail, range(1000), threads=2)
    assert len(called) < 100


def test_a_job_that_is_told_to_end_waits_for_no_call() -> None:
    released, started = threading.Event(), threading.Event()

    def read(_: int) -> None:
        started.set()
        released.wait(60)

    def end(number: int, frame: object) -> None:
        raise SystemExit(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        main = threading.get_ident()
        killer = threading.Thread(
            target=lambda: started.wait(60) and signal.pthread_kill(main, signal.SIGTERM), daemon=True
        )
        killer.start()
        with pytest.raises(SystemExit):
            map_threads(read, range(8), threads=2)
        assert not released.is_set()
        assert any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())
    finally:
        signal.signal(signal.SIGTERM, before)
        released.set()


def test_a_call_that_fails_is_raised_after_the_others_have_ended() -> None:
    started, ended = threading.Event(), threading.Event()

    def fail_or_end(index: int) -> None:
        if index == 0:
            assert started.wait(60)
            raise ValueError("first")
        started.set()
        time.sleep(0.1)
        ended.set()

    with pytest.raises(ValueError, match="first"):
        map_threads(fail_or_end, range(2), threads=2)
    assert ended.is_set()
