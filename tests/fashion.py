"""Provides the real Fashion-MNIST, and its first rows as IDX files."""

from __future__ import annotations

import gzip
import struct
from functools import cache
from pathlib import Path

import numpy as np

from cnnlib.dataset.source import Source
from cnnlib.sources.fashion_mnist import load_fashion_mnist

TRAIN_ROWS, TEST_ROWS = 610, 120  # 610 is no multiple of the batch sizes in the tests
CLASSES = 10


@cache
def fashion_mnist() -> Source:
    """Loads the whole dataset, once per process."""
    return load_fashion_mnist()


def write_tiny_idx(directory: Path) -> Path:
    """Writes the first rows of both splits as four IDX files."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, prefix, rows in (("train", "train", TRAIN_ROWS), ("test", "t10k", TEST_ROWS)):
        source = fashion_mnist().splits[split]
        images, labels = source.images[:rows, :, :, 0], source.labels[:rows].astype(np.uint8)
        (directory / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(encode_idx(images)))
        (directory / f"{prefix}-labels-idx1-ubyte").write_bytes(encode_idx(labels))
    return directory


def encode_idx(array: np.ndarray) -> bytes:
    """Encodes an array of unsigned bytes in the IDX format."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + np.ascontiguousarray(array, np.uint8).tobytes()
