"""Reads the IDX format of MNIST and similar datasets: a folder of four files, gzipped or not, becomes a source.

`cnnlib.sources.idx_names` finds the files. A file has two zero bytes, a type code, the number of dimensions, one
big-endian uint32 per dimension, then the data, row-major (http://yann.lecun.com/exdb/mnist/, "The IDX file format").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.errors import DatasetError
from cnnlib.log import log_event
from cnnlib.sources.idx_names import SPLIT_PREFIXES, IdxFiles, find_files
from cnnlib.sources.numbering import count_from_0
from cnnlib.storage import files
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import join_uri

_UNSIGNED_BYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"


def load_idx(
    directory_uri: str,
    class_names: Sequence[str] | None = None,
    *,
    first_label: int | None = None,
    prefix: str | None = None,
    transpose: bool = False,
) -> Source:
    """Reads an IDX folder.

    Args:
        directory_uri: the folder that holds the four files.
        class_names: names of the classes by label; None: the labels themselves.
        first_label: the number of the first class; None: 0, or 1 if the labels plainly count from 1.
        prefix: the dataset to take, where the folder holds several, such as `emnist-letters`.
        transpose: swap the height and width of the images, which EMNIST stores that way.

    Raises:
        NotFoundError: a file is missing.
        ConfigError: the folder holds several datasets and none was chosen, or the class names leave open which label
            is the first.
        DatasetError: a file is not IDX, or images, labels and class names do not match.
    """
    found = find_files(directory_uri, prefix)
    if "emnist" in found.prefix and not transpose:
        log_event("images", note="EMNIST stores its images transposed; --transpose turns them upright")
    description = f"IDX files of {directory_uri}" + (f", {found.prefix}" if found.prefix else "")
    contents = _read_all(directory_uri, found)
    return parse_source(
        contents.__getitem__, class_names, description, first_label=first_label, transpose=transpose
    )


def parse_source(
    content: Callable[[str], bytes],
    class_names: Sequence[str] | None,
    description: str,
    *,
    first_label: int | None = None,
    transpose: bool = False,
) -> Source:
    """Builds a source from the uncompressed contents of the four files.

    Labels that count from 1 become classes that count from 0, and a log line says so.

    Args:
        content: returns the content of a file by its name in MNIST, without `.gz`.
        class_names: names of the classes by label; None: the labels themselves.
        first_label: the number of the first class; None: 0, or 1 if the labels plainly count from 1.
        transpose: swap the height and width of the images.

    Raises:
        ConfigError: the class names leave open which label is the first.
        DatasetError: a file is not IDX, or images, labels and class names do not match.
    """
    splits = {split: _parse_split(content, prefix, transpose) for split, prefix in SPLIT_PREFIXES.items()}
    labels = {name: split.labels for name, split in splits.items()}
    names, classes = count_from_0(labels, class_names or (), first_label, description)
    splits = {name: replace(split, labels=classes[name]) for name, split in splits.items()}
    shapes = {split.images.shape[1:] for split in splits.values()}
    if len(shapes) != 1:
        raise DatasetError(f"The splits have images of different shapes: {sorted(shapes)}.")
    height, width, channels = shapes.pop()
    return Source(
        class_names=names, image_shape=(height, width, channels), splits=splits, description=description
    )


def read_files(directory_uri: str) -> dict[str, bytes]:
    """Reads the folder's four files, gzipped or not, and returns their uncompressed contents by their names in MNIST.

    Raises:
        NotFoundError: a file is missing.
        ConfigError: the folder holds several datasets.
        DatasetError: a gzip stream is damaged.
    """
    return _read_all(directory_uri, find_files(directory_uri))


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


def _read_all(directory_uri: str, found: IdxFiles) -> dict[str, bytes]:
    def read(path: str) -> bytes:
        return decompress(files.read_bytes(join_uri(directory_uri, path)), path)

    return dict(zip(found.paths, map_threads(read, found.paths.values()), strict=True))


def _parse_split(content: Callable[[str], bytes], prefix: str, transpose: bool) -> SourceSplit:
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
    if transpose:
        images = images.swapaxes(1, 2)
    return SourceSplit(images=images, labels=labels.astype(np.int32))
