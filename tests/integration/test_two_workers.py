"""Tests which results two workers share with one worker, and which differ, in two processes under the real strategy."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.two_workers import CASES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both() -> list[dict[str, Any]]:
    """Returns the results of each of two workers."""
    return run_workers(2)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Returns the results of a single worker, which computes all rows."""
    return run_workers(1)[0]


def run_workers(number: int) -> list[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [str(probe.getsockname()[1]) for probe in probes]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.two_workers", str(rank), *ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(number)
    ]
    try:
        outputs = [worker.communicate(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * number, outputs
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


@pytest.mark.parametrize("case", CASES)
def test_two_workers_train_what_one_worker_trains(
    both: list[dict[str, Any]], alone: dict[str, Any], case: str
) -> None:
    for worker in both:
        for have, want in zip(worker[case], alone[case], strict=True):
            # Float sums in another order; Adam also divides a gradient by its size.
            np.testing.assert_allclose(have, want, rtol=0, atol=1e-5)


def test_two_workers_that_normalise_together_train_what_one_worker_trains(
    both: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    for worker in both:
        for have, want in zip(worker["normalised"], alone["normalised"], strict=True):
            np.testing.assert_allclose(have, want, rtol=0, atol=1e-5)


def test_workers_draw_different_random_numbers(both: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    first, second = (np.array(worker["draws"]) for worker in both)
    assert not np.isclose(first, second).any()
    np.testing.assert_array_equal(first, alone["draws"])  # replica 0 draws the numbers of a single worker


def test_workers_compute_in_bfloat16_only_if_all_of_them_can(both: list[dict[str, Any]]) -> None:
    for worker in both:
        assert worker["precisions"] == ["mixed_bfloat16", "float32", "float32"]
