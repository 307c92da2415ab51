"""Writes the shards of a dataset from JPEG files with Pillow in a simple loop, in one process, without checks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps


def main(folder: str, output: str, side: int, shard_rows: int) -> None:
    """Writes all images of a folder of class folders as squares of that side."""
    paths = sorted(Path(folder).rglob("*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    Path(output).mkdir(parents=True)
    for index, start in enumerate(range(0, len(paths), shard_rows)):
        some = paths[start : start + shard_rows]
        images = np.stack([_read(path, side) for path in some])
        labels = np.array([classes.index(path.parent.name) for path in some], np.int32)
        pixels = pa.Array.from_buffers(pa.binary(side * side * 3), len(some), [None, pa.py_buffer(images)])
        ids = np.arange(start, start + len(some), dtype=np.int64)
        table = pa.table({"id": ids, "image": pixels, "label": labels})
        pq.write_table(
            table, Path(output, f"part-{index:05d}.parquet"), compression="zstd", use_dictionary=False
        )


def _read(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(ImageOps.fit(picture.convert("RGB"), (side, side)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
