"""Measures speed, memory, threads and open files of the streaming feed as the rows and epochs grow.

    python -m cnnlib.bench.ours.scale rows 60000 600000 6000000     # one epoch each, each in a fresh process
    python -m cnnlib.bench.ours.scale epochs 60000 20               # many epochs, one line per epoch

The rows are noise of 28x28x1, written to a temporary folder first. Nothing is trained. Prints one JSON object per line.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from cnnlib.bench.ours.stream import open_stream
from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.dataset.writer import write_dataset
from cnnlib.models.runtime import load_tensorflow

_BATCH_SIZE = 64
_STEPS_PER_CALL = 25
_BLOCK_ROWS = 20_000  # of noise, which are repeated: a shard is all noise, but a dataset repeats itself


def main(command: str, *numbers: int) -> None:
    """Runs one of the two measurements and prints its results.

    Args:
        command: `rows` or `epochs`.
        numbers: for `rows` the numbers of rows; for `epochs` the number of rows and the number of epochs.
    """
    if command == "rows":
        for rows in numbers:
            subprocess.run(
                [sys.executable, "-m", "cnnlib.bench.ours.scale", "epochs", str(rows), "1"], check=True
            )
        return
    rows, epochs = numbers
    with tempfile.TemporaryDirectory() as folder:
        write_noise(folder, rows)
        _stream(folder, epochs)


def write_noise(folder: str, rows: int) -> None:
    """Writes a dataset of images 28x28x1 in 10 classes."""
    # In a child process, so that the memory of writing does not count as memory of reading.
    if os.fork() == 0:
        rng = np.random.default_rng(0)
        block = rng.integers(0, 256, (min(rows, _BLOCK_ROWS), 28, 28, 1), np.uint8)
        images = np.concatenate([block] * -(-rows // len(block)))[:rows]
        labels = rng.integers(0, 10, rows).astype(np.int32)
        names = tuple(map(str, range(10)))
        splits = {"train": SourceSplit(images=images, labels=labels)}
        write_dataset(
            Source(class_names=names, image_shape=(28, 28, 1), splits=splits, description="noise"), folder
        )
        os._exit(0)
    if os.wait()[1]:
        raise SystemExit("The rows could not be written.")


def _stream(folder: str, epochs: int) -> None:
    load_tensorflow(1)
    from cnnlib.feed.device import iter_macro_batches

    stream = open_stream(folder, batch_size=_BATCH_SIZE, threads=1, epochs=epochs)
    with stream as (feed, steps):
        idle_mib = _rss_mib()
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            for _ in iter_macro_batches(feed.epoch(epoch, steps, _STEPS_PER_CALL), "/device:CPU:0"):
                pass
            seconds = time.perf_counter() - started
            measured: dict[str, int] = {
                "rows": steps * _BATCH_SIZE,
                "epoch": epoch,
                "images_per_s": round(steps * _BATCH_SIZE / seconds),
                "rss_mib": round(_rss_mib()),
                "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "idle_rss_mib": round(idle_mib),
                "threads": threading.active_count(),
                "open_files": len(os.listdir("/proc/self/fd")),
            }
            print(json.dumps(measured), flush=True)  # noqa: T201


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
