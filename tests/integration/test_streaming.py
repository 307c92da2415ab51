"""Tests streaming of many epochs, in a process that does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

EPOCHS, ROWS = 45, 20_000
SETTLED = (
    25  # epochs after which buffers of bounded size are full: memory grows by 150 MiB until then, and stays
)
PIXELS_MIB = ROWS * 28 * 28 / 2**20


def test_epochs_leave_no_thread_file_or_memory_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cnnlib.bench.ours.scale", "epochs", str(ROWS), str(EPOCHS)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    epochs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["epoch"] for each in epochs] == list(range(1, EPOCHS + 1))
    assert {each["rows"] for each in epochs} == {ROWS // 64 * 64}
    settled, last = epochs[SETTLED - 1], epochs[-1]
    # Ray opens and closes connections to processes that read; each of the 20 epochs would leave one behind.
    assert abs(last["threads"] - settled["threads"]) < (EPOCHS - SETTLED) / 3
    assert abs(last["open_files"] - settled["open_files"]) < (EPOCHS - SETTLED) / 3
    # If each of the 20 epochs left a fifth of its pixels behind, this would fail.
    assert last["rss_mib"] - settled["rss_mib"] < (EPOCHS - SETTLED) * PIXELS_MIB / 5
