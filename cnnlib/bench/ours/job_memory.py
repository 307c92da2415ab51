"""What every process of a training job takes at its peak, as the data grows: a whole job, two workers, streaming.

    python -m cnnlib.bench.ours.job_memory 60000 600000 6000000

Rows are made up, as in `our_scale`; the tutorial's dense network trains on all of them, twice, with batches of 1,024:
reading is much of the work. One JSON object per line. Linux only: it asks /proc.
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
    """Measures and prints, one number of rows after the other."""
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
    figures = json.loads(printed.splitlines()[-1])["metrics"]
    of_kind: dict[str, list[int]] = {}
    for name, peak_kib in peaks.values():
        of_kind.setdefault(name, []).append(round(peak_kib / 1024))
    return {
        "images_per_s": round(figures["images_per_s"]),
        "data_wait": round(figures["data_wait"], 4),
        "peak_mib": {name: sorted(sizes, reverse=True) for name, sizes in sorted(of_kind.items())},
    }


def _watch(pid: int, peaks: dict[int, tuple[str, int]], ended: threading.Event) -> None:
    """Notes the name and the peak memory, in KiB, of a process and of all that it started, until told to end."""
    while not ended.wait(_INTERVAL_S):
        for each in _family(pid):
            try:
                status = Path(f"/proc/{each}/status").read_text()
                words = Path(f"/proc/{each}/cmdline").read_text().split("\0")
            except OSError:  # it ended meanwhile; what was noted of it stays
                continue
            peak = re.search(r"VmHWM:\s+(\d+) kB", status)
            if peak:
                peaks[each] = ("driver" if each == pid else _name(words), int(peak.group(1)))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            started = children.read_text().split()
        except OSError:
            continue
        for child in started:
            yield from _family(int(child))


def _name(words: list[str]) -> str:
    """What a process is, out of its command line: Ray writes a worker's actor there; a server's is its file's name.

    >>> _name(["ray::RayTrainWorker", ""]), _name(["/x/bin/python", "-u", "/x/ray/dashboard/agent.py", "--n"])
    ('ray::RayTrainWorker', 'agent.py')
    """
    if words[0].startswith("ray::"):
        return words[0].split(".")[0]
    script = next((word for word in words if word.endswith(".py")), words[0])
    return Path(script).name


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
