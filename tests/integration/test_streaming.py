"""Tests streaming of many epochs, in a process that does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

EPOCHS, ROWS = 20, 20_000
PIXELS_MIB = ROWS * 28 * 28 / 2**20


def test_twenty_epochs_leave_no_thread_file_or_memory_behind() -> None:
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
    third, last = epochs[2], epochs[-1]
    # Ray opens and closes connections to processes that read; each of the 17 epochs would leave one behind.
    assert abs(last["threads"] - third["threads"]) < (EPOCHS - 3) / 3
    assert abs(last["open_files"] - third["open_files"]) < (EPOCHS - 3) / 3
    # If each of the 17 epochs left a fifth of its pixels behind, this would fail.
    assert last["rss_mib"] - third["rss_mib"] < (EPOCHS - 3) * PIXELS_MIB / 5
