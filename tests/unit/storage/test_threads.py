"""Tests a function that is mapped over items in threads."""

from __future__ import annotations

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
