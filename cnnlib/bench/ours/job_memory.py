"""Measures the peak memory of every process of a training job as the data grows: two workers, streaming.

    python -m cnnlib.bench.ours.job_memory 60000 600000 6000000

The rows are noise, as in scale.py. The tutorial's dense network trains for two epochs with batches of 1,024, so that
reading is much of the work. Prints one JSON object per line. Works on Linux only, because it reads /proc.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnlib.bench.ours.scale import write_noise
from cnnlib.bench.programs import REPOSITORY

_INTERVAL_S = 0.5
_BATCH_SIZE = 1024


def main(*numbers: int) -> None:
    """Measures a job for each number of rows, and prints its result."""
    for rows in numbers:
        with tempfile.TemporaryDirectory() as folder:
            write_noise(f"{folder}/data", rows)
            print(json.dumps({"rows": rows, **_train(folder)}), flush=True)  # noqa: T201


def _train(folder: str) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "jobs.train", "dnn", "--data", f"{folder}/data", "--runs", f"{folder}/runs"),
        *("--name", "memory", "--workers", "2", "--epochs", "2", "--batch-size", str(_BATCH_SIZE)),
        *("--cache", "none", "--json"),
    ]
    job = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    peaks: dict[int, tuple[str, int]] = {}
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(job.pid, peaks, ended))
    watch.start()
    try:
        printed, _ = job.communicate()
    finally:
        ended.set()
        watch.join()
    if job.returncode:
        raise SystemExit(f"The job failed with exit code {job.returncode}.")
    metrics = json.loads(printed.splitlines()[-1])["metrics"]
    peaks_mib: dict[str, list[int]] = {}
    for name, peak_kib in peaks.values():
        peaks_mib.setdefault(name, []).append(round(peak_kib / 1024))
    return {
        "images_per_s": round(metrics["images_per_s"]),
        "data_wait": round(metrics["data_wait"], 4),
        "peak_mib": {name: sorted(sizes, reverse=True) for name, sizes in sorted(peaks_mib.items())},
    }


def _watch(pid: int, peaks: dict[int, tuple[str, int]], ended: threading.Event) -> None:
    """Records the name and the peak memory, in KiB, of a process and all its descendants, until `ended` is set."""
    while not ended.wait(_INTERVAL_S):
        for each in _process_tree(pid):
            try:
                status = Path(f"/proc/{each}/status").read_text()
                words = Path(f"/proc/{each}/cmdline").read_text().split("\0")
            except OSError:  # the process has ended; its last recorded peak stays
                continue
            peak = re.search(r"VmHWM:\s+(\d+) kB", status)
            if peak:
                peaks[each] = ("driver" if each == pid else _name(words), int(peak.group(1)))


def _process_tree(pid: int) -> Iterator[int]:
    """Yields a process id and those of all its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            child_pids = children.read_text().split()
        except OSError:
            continue
        for child in child_pids:
            yield from _process_tree(int(child))


def _name(words: list[str]) -> str:
    """Returns the name of a process from its command line: that of the Ray actor, or else the file name of the program.

    >>> _name(["ray::RayTrainWorker", ""]), _name(["/x/bin/python", "-u", "/x/ray/dashboard/agent.py", "--n"])
    ('ray::RayTrainWorker', 'agent.py')
    """
    if words[0].startswith("ray::"):
        return words[0].split(".")[0]
    script = next((word for word in words if word.endswith(".py")), words[0])
    return Path(script).name


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
