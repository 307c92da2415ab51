"""Reads CIFAR-10 and CIFAR-100, the Python and the binary version, as their authors publish them.

A record has 3072 bytes, 1024 of red, of green and of blue, row by row (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.errors import DatasetError, NotFoundError
from cnnlib.sources.numbering import check_numbering
from cnnlib.storage import files
from cnnlib.storage.uri import join_uri

_SHAPE = (32, 32, 3)
_PIXELS = 3072
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
# What a file may be made of: a pickle of anything else could run code.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def load_cifar(directory_uri: str) -> Source:
    """Reads the files in a folder: data_batch_1, …, test_batch and batches.meta, train, test and meta, or *.bin.

    The classes of CIFAR-100 are the 100 fine ones.

    Raises:
        NotFoundError: a file is missing.
        DatasetError: a file is damaged, or not CIFAR.
    """
    names = set(files.list_files(directory_uri))
    for read in (_read_python_10, _read_python_100, _read_binary_10, _read_binary_100):
        found = read(directory_uri, names)
        if found is not None:
            return found
    raise NotFoundError(
        f"{directory_uri} has no CIFAR files. Received {', '.join(sorted(names)) or 'nothing'}, expected data_batch_1, "
        "test_batch and batches.meta (CIFAR-10), train, test and meta (CIFAR-100), or their .bin files."
    )


def _read_python_10(uri: str, found: set[str]) -> Source | None:
    if "batches.meta" not in found:
        return None
    names = _read_meta(uri, "batches.meta", "label_names")
    train = [_parse_dict(_unpickle(uri, name), "labels", f"{uri}/{name}") for name in _TRAIN]
    test = [_parse_dict(_unpickle(uri, "test_batch"), "labels", f"{uri}/test_batch")]
    return _build("CIFAR-10", uri, names, train, test)


def _read_python_100(uri: str, found: set[str]) -> Source | None:
    if not {"train", "test", "meta"} <= found:
        return None
    names = _read_meta(uri, "meta", "fine_label_names")
    train, test = (
        [_parse_dict(_unpickle(uri, name), "fine_labels", f"{uri}/{name}")] for name in ("train", "test")
    )
    return _build("CIFAR-100", uri, names, train, test)


def _read_binary_10(uri: str, found: set[str]) -> Source | None:
    if "data_batch_1.bin" not in found:
        return None
    train = [_parse_records(uri, f"{name}.bin", 1) for name in _TRAIN]
    test = [_parse_records(uri, "test_batch.bin", 1)]
    return _build("CIFAR-10", uri, _read_names(uri, "batches.meta.txt"), train, test)


def _read_binary_100(uri: str, found: set[str]) -> Source | None:
    if not {"train.bin", "test.bin"} <= found:
        return None
    train, test = ([_parse_records(uri, f"{name}.bin", 2)] for name in ("train", "test"))
    return _build("CIFAR-100", uri, _read_names(uri, "fine_label_names.txt"), train, test)


Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]


def _build(
    kind: str, uri: str, class_names: Sequence[str], train: Sequence[Part], test: Sequence[Part]
) -> Source:
    splits = {
        name: SourceSplit(
            images=np.concatenate([images for images, _ in parts]),
            labels=np.concatenate([labels for _, labels in parts]),
        )
        for name, parts in (("train", train), ("test", test))
    }
    check_numbering({name: split.labels for name, split in splits.items()}, uri, advice="")
    labels = np.concatenate([split.labels for split in splits.values()])
    first, last = int(labels.min(initial=0)), int(labels.max(initial=0))
    if first < 0 or last >= len(class_names):
        raise DatasetError(
            f"{uri}: the labels are {first}..{last}, but there are {len(class_names)} class names. Expected labels of "
            f"0..{len(class_names) - 1}."
        )
    return Source(
        class_names=tuple(class_names), image_shape=_SHAPE, splits=splits, description=f"{kind} of {uri}"
    )


def _parse_records(uri: str, name: str, num_labels: int) -> Part:
    data = files.read_bytes(join_uri(uri, name))
    size = num_labels + _PIXELS
    if not data or len(data) % size:
        raise DatasetError(
            f"{uri}/{name} has {len(data)} bytes. Expected a multiple of {size}, the size of a record."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    return _to_images(records[:, num_labels:]), records[:, num_labels - 1].astype(np.int32)


def _parse_dict(document: dict[Any, Any], labels: str, name: str) -> Part:
    try:
        pixels = np.asarray(document[b"data"])
        values = np.asarray(document[labels.encode()])
    except KeyError as err:
        raise DatasetError(f"{name} is not CIFAR: it has no entry {err}.") from err
    except (ValueError, TypeError, OverflowError) as err:  # lists of unequal lengths
        raise DatasetError(f"{name} is not CIFAR: its data or labels are no array: {err}.") from err
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise DatasetError(
            f"{name} is not CIFAR: its labels are {values.dtype} {values.shape}. Expected whole numbers (n,)."
        )
    if pixels.dtype != np.uint8 or pixels.shape != (len(values), _PIXELS):
        raise DatasetError(
            f"{name} is not CIFAR: its data are {pixels.dtype} {pixels.shape} for {len(values)} labels. Expected uint8 "
            f"(n, {_PIXELS})."
        )
    return _to_images(pixels), values.astype(np.int32)


def _to_images(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width, channels = _SHAPE
    planes = pixels.reshape(-1, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _read_names(uri: str, name: str) -> list[str]:
    lines = _decode(files.read_bytes(join_uri(uri, name)), f"{uri}/{name}").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _read_meta(uri: str, name: str, entry: str) -> list[str]:
    """Returns the class names of the Python version."""
    names = _unpickle(uri, name).get(entry.encode())
    if not isinstance(names, list | tuple):
        raise DatasetError(f"{uri}/{name} has no list of class names. Expected an entry {entry!r}.")
    return [_decode(each, f"{uri}/{name}") if isinstance(each, bytes) else str(each) for each in names]


def _decode(text: bytes, name: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as err:
        raise DatasetError(
            f"The class names of {name} are no text in UTF-8. Received {text[:50]!r}."
        ) from err


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it needs {module}.{name}")
        return super().find_class(module, name)


def _unpickle(uri: str, name: str) -> dict[Any, Any]:
    data = files.read_bytes(join_uri(uri, name))
    try:
        document = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as err:  # damaged bytes make an unpickler call anything with anything
        raise DatasetError(f"{uri}/{name} is not a file of CIFAR's Python version: {err}.") from err
    if not isinstance(document, dict):
        raise DatasetError(f"{uri}/{name} is not a file of CIFAR's Python version: it holds no dictionary.")
    return document
