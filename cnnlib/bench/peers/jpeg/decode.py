"""Measures the decoding of whole JPEG files alone, with Pillow (libjpeg-turbo), in one process per core."""

from __future__ import annotations

import io
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image


def main(folder: str, processes: int) -> float:
    """Returns the images per second of the second pass; the files are in memory."""
    files = [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]
    parts = [files[index::processes] for index in range(processes)]
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_decode, parts))
        started = time.perf_counter()
        count = sum(pool.map(_decode, parts))
        return count / (time.perf_counter() - started)


def _decode(files: list[bytes]) -> int:
    for data in files:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    return len(files)


if __name__ == "__main__":
    print(json.dumps({"images_per_s": main(sys.argv[1], int(sys.argv[2]))}))  # noqa: T201
