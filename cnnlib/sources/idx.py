"""Reads the IDX format of MNIST and similar datasets: a folder of four files, gzipped or not, becomes a source.

    train-images-idx3-ubyte[.gz]   train-labels-idx1-ubyte[.gz]
    t10k-images-idx3-ubyte[.gz]    t10k-labels-idx1-ubyte[.gz]

A file has two zero bytes, a type code, the number of dimensions, one big-endian uint32 per dimension, then the data,
row-major (http://yann.lecun.com/exdb/mnist/, "The IDX file format").
"""

from __future__ import annotations

import functools
import gzip
import math
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.errors import DatasetError, NotFoundError
from cnnlib.storage import files
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import join_uri

SPLIT_PREFIXES = {"train": "train", "test": "t10k"}
"""The prefixes of the names of a split's two files."""
_UNSIGNED_BYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"


def file_names() -> list[str]:
    """Returns the names of the four files of an IDX dataset, without `.gz`."""
    return [
        f"{prefix}-{kind}"
        for prefix in SPLIT_PREFIXES.values()
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]


def load_idx(directory_uri: str, class_names: Sequence[str] | None = None) -> Source:
    """Reads an IDX folder.

    Args:
        directory_uri: the folder that holds the four files.
        class_names: names of the classes by label; None: the labels themselves.

    Raises:
        NotFoundError: a file is missing.
        DatasetError: a file is not IDX, or images, labels and class names do not match.
    """
    return parse_source(read_files(directory_uri).__getitem__, class_names, f"IDX files of {directory_uri}")


def parse_source(
    content: Callable[[str], bytes], class_names: Sequence[str] | None, description: str
) -> Source:
    """Builds a source from the uncompressed contents of the four files.

    Args:
        content: returns the content of a file by its name without `.gz`.
        class_names: names of the classes by label; None: the labels themselves.

    Raises:
        DatasetError: a file is not IDX, or images, labels and class names do not match.
    """
    splits = {split: _parse_split(content, prefix) for split, prefix in SPLIT_PREFIXES.items()}
    num_classes = 1 + max(int(split.labels.max(initial=0)) for split in splits.values())
    names = tuple(class_names or (str(index) for index in range(num_classes)))
    if len(names) < num_classes:
        raise DatasetError(
            f"The labels go up to {num_classes - 1}, but there are {len(names)} class names: {', '.join(names)}."
        )
    shapes = {split.images.shape[1:] for split in splits.values()}
    if len(shapes) != 1:
        raise DatasetError(f"The splits have images of different shapes: {sorted(shapes)}.")
    height, width, channels = shapes.pop()
    return Source(
        class_names=names, image_shape=(height, width, channels), splits=splits, description=description
    )


def read_files(directory_uri: str) -> dict[str, bytes]:
    """Reads the folder's four files, gzipped or not, and returns their uncompressed contents by name.

    Raises:
        NotFoundError: neither `NAME` nor `NAME.gz` is there.
        DatasetError: a gzip stream is damaged.
    """
    names = file_names()
    contents = map_threads(functools.partial(read_file, directory_uri), names)
    return dict(zip(names, contents, strict=True))


def read_file(directory_uri: str, name: str) -> bytes:
    """Reads one file, `NAME.gz` or else `NAME`, and returns its uncompressed content; raises as `read_files` does."""
    for candidate in (f"{name}.gz", name):
        try:
            return decompress(files.read_bytes(join_uri(directory_uri, candidate)), candidate)
        except NotFoundError:
            continue
    raise NotFoundError(
        f"{directory_uri} has neither {name}.gz nor {name}. Expected the four files of an IDX dataset."
    )


def decompress(data: bytes, name: str) -> bytes:
    """Decompresses data if it is gzipped, and returns other data as it is.

    Raises:
        DatasetError: the gzip stream is damaged.
    """
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as err:
        raise DatasetError(f"{name} is a damaged gzip file: {err}. Download it again.") from err


def parse_idx(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Parses uncompressed IDX data of unsigned bytes into a uint8 array of the shape that its header states.

    Raises:
        DatasetError: the data is not IDX of unsigned bytes, or its size does not match its header.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "labels").tolist()
    [7, 9]
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE:
        raise DatasetError(
            f"{name} is not an IDX file of unsigned bytes. "
            f"Received {data[:4].hex(' ') or 'nothing'}, expected 00 00 08 …."
        )
    num_dims = data[3]
    header_bytes = 4 + 4 * num_dims
    if len(data) < header_bytes:
        raise DatasetError(
            f"{name} ends inside its header. Received {len(data)} bytes, expected {header_bytes}."
        )
    shape = struct.unpack(f">{num_dims}I", data[4:header_bytes])
    data_bytes = len(data) - header_bytes
    if data_bytes != math.prod(shape):
        raise DatasetError(
            f"{name} does not have the size of its shape {shape}. Received {data_bytes} bytes of data, "
            f"expected {math.prod(shape)}."
        )
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(shape)


def _parse_split(content: Callable[[str], bytes], prefix: str) -> SourceSplit:
    images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    images = parse_idx(content(images_name), images_name)
    labels = parse_idx(content(labels_name), labels_name)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
        raise DatasetError(
            f"{images_name} has the shape {images.shape}, {labels_name} {labels.shape}. "
            "Expected (n, height, width[, channels]) and (n,)."
        )
    return SourceSplit(images=images, labels=labels.astype(np.int32))
