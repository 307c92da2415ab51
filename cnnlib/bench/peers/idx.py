"""Reads gzipped IDX files for the peers, as a script would."""

from __future__ import annotations

import gzip

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def read_idx(folder: str, prefix: str) -> tuple[Bytes, Bytes]:
    """Reads images uint8 [rows, 28, 28, 1] and labels uint8 [rows].

    Args:
        prefix: `train` or `t10k`.
    """
    with gzip.open(f"{folder}/{prefix}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(f"{folder}/{prefix}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels
