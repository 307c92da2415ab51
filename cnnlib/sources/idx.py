"""The IDX format of MNIST and its relatives: a folder of four files, gzipped or not, to rows.

    train-images-idx3-ubyte[.gz]   train-labels-idx1-ubyte[.gz]
    t10k-images-idx3-ubyte[.gz]    t10k-labels-idx1-ubyte[.gz]

Format: two zero bytes, a type code, the number of dimensions, one big-endian uint32 per dimension, then the data,
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
_UNSIGNED_BYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"


def file_names() -> list[str]:
    """The four files of an IDX data set, without `.gz`."""
    return [
        f"{prefix}-{kind}"
        for prefix in SPLIT_PREFIXES.values()
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]


def load_idx(directory_uri: str, class_names: Sequence[str] | None = None) -> Source:
    """Reads an IDX folder.

    Args:
        directory_uri: holds the four files.
        class_names: names of the classes; None: their numbers.

    Raises:
        NotFoundError: a file is missing.
        DatasetError: a file is not IDX, or images, labels and class names do not match.
    """
    return parse_source(read_files(directory_uri).__getitem__, class_names, f"IDX files of {directory_uri}")


def parse_source(
    content: Callable[[str], bytes], class_names: Sequence[str] | None, description: str
) -> Source:
    """Builds a source from the four files' uncompressed contents."""
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
    """The uncompressed contents of the folder's four files, which may be gzipped, by name.

    Raises:
        NotFoundError: neither `NAME` nor `NAME.gz` is there.
        DatasetError: a gzip stream is damaged.
    """
    names = file_names()
    contents = map_threads(functools.partial(read_file, directory_uri), names)
    return dict(zip(names, contents, strict=True))


def read_file(directory_uri: str, name: str) -> bytes:
    """One of them; raises what `read_files` does."""
    for candidate in (f"{name}.gz", name):
        try:
            return decompress(files.read_bytes(join_uri(directory_uri, candidate)), candidate)
        except NotFoundError:
            continue
    raise NotFoundError(
        f"{directory_uri} has neither {name}.gz nor {name}. Expected the four files of an IDX data set."
    )


def decompress(data: bytes, name: str) -> bytes:
    """Ungzips data where it is gzipped.

    Raises:
        DatasetError: the gzip stream is damaged.
    """
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as err:
        raise DatasetError(f"{name} is a damaged gzip file: {err}. Fetch it again.") from err


def parse_idx(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Parses uncompressed IDX data of unsigned bytes into an array of its dimensions.

    Raises:
        DatasetError: it is not that.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "labels").tolist()
    [7, 9]
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE:
        raise DatasetError(
            f"{name} is not an IDX file of unsigned bytes. "
            f"Received {data[:4].hex(' ') or 'nothing'}, expected 00 00 08 …."
        )
    num_dims = data[3]
    header = 4 + 4 * num_dims
    if len(data) < header:
        raise DatasetError(f"{name} ends inside its header: {len(data)} bytes, expected {header}.")
    shape = struct.unpack(f">{num_dims}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise DatasetError(
            f"{name} states the shape {shape}, {math.prod(shape)} bytes, but holds {len(data) - header}."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


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
