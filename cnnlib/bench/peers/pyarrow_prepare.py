"""Writes the shards of a dataset with pyarrow in a simple loop, in one process, without checks or a manifest."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cnnlib.bench.peers.idx import Bytes, read_idx


def main(folder: str, output: str, shards: dict[str, int]) -> None:
    """Writes both splits of a folder of IDX files.

    Args:
        shards: number of equal shards of `train` and of `test`.
    """
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = read_idx(folder, prefix)
        directory = Path(output, split)
        directory.mkdir(parents=True)
        rows = -(-len(labels) // shards[split])
        for index, start in enumerate(range(0, len(labels), rows)):
            path = directory / f"part-{index:05d}.parquet"
            _write(path, start, images[start : start + rows], labels[start : start + rows])
            hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, start: int, images: Bytes, labels: Bytes) -> None:
    pixels = pa.Array.from_buffers(pa.binary(28 * 28), len(labels), [None, pa.py_buffer(images)])
    ids = np.arange(start, start + len(labels), dtype=np.int64)
    table = pa.table({"id": ids, "image": pixels, "label": labels.astype(np.int32)})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], {"train": int(sys.argv[3]), "test": int(sys.argv[4])})
