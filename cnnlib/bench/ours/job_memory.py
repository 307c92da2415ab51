"""Measures the peak memory of every process of a job as the data grows.

    python -m cnnlib.bench.ours.job_memory raw 60000 600000 6000000     # trains: two workers, streaming
    python -m cnnlib.bench.ours.job_memory jpeg 10000 100000 1000000    # prepares, then trains

The images are noise of 28x28x1, as in scale.py; each JPEG is one of its own, read from Parquet files. The tutorial's
dense network trains for two epochs with batches of 1,024, so that reading is much of the work. Prints one JSON object
for each command. Works on Linux only, because it reads /proc.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cnnlib.bench.ours.scale import write_noise
from cnnlib.bench.programs import REPOSITORY

_INTERVAL_S = 0.5
_BATCH_SIZE = 1024
_FILE_ROWS = 10_000


def main(kind: str, *numbers: int) -> None:
    """Measures the jobs for each number of rows, and prints their results."""
    for rows in numbers:
        with tempfile.TemporaryDirectory() as folder:
            if kind == "raw":
                write_noise(f"{folder}/data", rows)
            else:
                write_jpeg(Path(folder) / "source", rows)
                _print("prepare", rows, _prepare(folder, rows))
            _print("train", rows, _train(folder))


def write_jpeg(folder: Path, rows: int) -> None:
    """Writes Parquet files of JPEG images, 28x28x1 of noise, about 900 bytes each, in 10 classes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for start in range(0, rows, _FILE_ROWS):
        block = rng.integers(0, 256, (min(_FILE_ROWS, rows - start), 28, 28), np.uint8)
        labels = rng.integers(0, 10, len(block))
        table = pa.table({"image": [_to_jpeg(each) for each in block], "label": labels})
        pq.write_table(table, folder / f"{start:08d}.parquet")


def _to_jpeg(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    return file.getvalue()


def _print(job: str, rows: int, figures: dict[str, Any]) -> None:
    print(json.dumps({"job": job, "rows": rows, **figures}), flush=True)  # noqa: T201


def _prepare(folder: str, rows: int) -> dict[str, Any]:
    started = time.perf_counter()
    _, peak_mib = _run(
        *("jobs.prepare", "parquet", f"{folder}/source", "--output", f"{folder}/data", "--size", "28"),
        *("--channels", "1", "--encoding", "jpeg", "--splits", "train=1"),
    )
    return {"images_per_s": round(rows / (time.perf_counter() - started)), "peak_mib": peak_mib}


def _train(folder: str) -> dict[str, Any]:
    printed, peak_mib = _run(
        *("jobs.train", "dnn", "--data", f"{folder}/data", "--runs", f"{folder}/runs"),
        *("--name", "memory", "--workers", "2", "--epochs", "2", "--batch-size", str(_BATCH_SIZE)),
        *("--cache", "none", "--json"),
    )
    metrics = json.loads(printed.splitlines()[-1])["metrics"]
    return {
        "images_per_s": round(metrics["images_per_s"]),
        "data_wait": round(metrics["data_wait"], 4),
        "peak_mib": peak_mib,
    }


def _run(*arguments: str) -> tuple[str, dict[str, list[int]]]:
    """Runs a job; returns what it printed, and the peak memory of its processes, in MiB, by their names."""
    job = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
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
    peaks_mib: dict[str, list[int]] = {}
    for name, peak_kib in peaks.values():
        peaks_mib.setdefault(name, []).append(round(peak_kib / 1024))
    return printed, {name: sorted(sizes, reverse=True) for name, sizes in sorted(peaks_mib.items())}


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
    main(sys.argv[1], *map(int, sys.argv[2:]))
