"""Tests what a job says while others use the cluster, and when it gives up. Time is counted here, no cluster runs."""

from __future__ import annotations

import itertools

import pytest

from cnnlib.cluster.connect import ResourceRequest
from cnnlib.cluster.reserve import wait_until
from cnnlib.errors import ClusterError

WHAT = "1 predictors of 1 CPU each"


def wait(ready_after_s: float, wait_s: float) -> None:
    """Waits with a clock that goes on by a second whenever it is asked."""
    seconds = itertools.count()
    asked = itertools.count()
    wait_until(
        lambda: next(asked) >= ready_after_s, WHAT, wait_s, lambda: "0 of 2 CPU", lambda: next(seconds)
    )


def test_who_finds_room_at_once_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    wait(ready_after_s=0, wait_s=0)
    assert capsys.readouterr().err == ""


def test_who_waits_says_so_after_five_seconds_and_then_every_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wait(ready_after_s=130, wait_s=1800)
    assert capsys.readouterr().err.splitlines() == [
        f'cluster note="waiting for {WHAT} (0 of 2 CPU free)" gives_up_in_s={left}'
        for left in (1795, 1735, 1675)
    ]


def test_who_waits_gives_up_after_the_stated_time() -> None:
    with pytest.raises(ClusterError) as raised:
        wait(ready_after_s=10_000, wait_s=90)
    assert str(raised.value).startswith(
        f"The cluster had no room for {WHAT} within 90 s: 0 of 2 CPU are free. Other jobs use the rest, or"
    )


def test_room_is_asked_for_the_processes_and_their_readers_together() -> None:
    request = ResourceRequest(what="predictors", count=2, cpus=3, gpus=1)
    assert request.bundles == [{"CPU": 3, "GPU": 1}, {"CPU": 3, "GPU": 1}, {"CPU": 1}]
