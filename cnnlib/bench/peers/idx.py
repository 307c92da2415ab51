"""Reads gzipped IDX files, as a script would. Shared by the peers."""

from __future__ import annotations

import gzip

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def read_idx(folder: str, prefix: str) -> tuple[Bytes, Bytes]:
    """Images uint8 [rows, 28, 28, 1] and labels uint8 [rows] of the split `train` or `t10k`."""
    with gzip.open(f"{folder}/{prefix}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(f"{folder}/{prefix}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels
