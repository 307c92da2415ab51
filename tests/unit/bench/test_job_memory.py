"""Tests the measurement of the memory of a job's processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from cnnlib.bench.ours import job_memory

_HELD_KIB = 100 * 1024
PARENT = """
import subprocess, sys
child = "held = bytearray(100 * 2**20); print('held', flush=True); input()"
subprocess.run([sys.executable, "-c", child])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_peak_of_a_process_and_of_its_children_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_memory, "_INTERVAL_S", 0.01)
    peaks: dict[int, tuple[str, int]] = {}
    ended = threading.Event()
    job = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    watch = threading.Thread(target=job_memory._watch, args=(job.pid, peaks, ended))
    watch.start()
    assert job.stdout is not None
    assert job.stdout.readline() == "held\n"
    deadline = time.monotonic() + 30
    while (
        max((peak for _, peak in peaks.copy().values()), default=0) < _HELD_KIB
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    job.communicate("\n")
    ended.set()
    watch.join()
    driver = peaks.pop(job.pid)
    assert driver[0] == "driver"
    assert driver[1] < 80 * 1024
    (child,) = peaks.values()
    assert child[1] > _HELD_KIB


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["ray::RayTrainWorker.execute", ""], "ray::RayTrainWorker"),
        (["/opt/bin/python", "-u", "/opt/ray/dashboard/agent.py", "--port"], "agent.py"),
        (["/opt/ray/raylet/raylet", "--store"], "raylet"),
    ],
)
def test_a_process_is_named_after_what_it_does(words: list[str], name: str) -> None:
    assert job_memory._name(words) == name
