"""Reads images from NumPy's `.npz` archives, such as Keras's `mnist.npz`: images and labels of each split."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.errors import DatasetError
from cnnlib.sources.image_files import SPLIT_NAMES
from cnnlib.sources.numbering import count_from_0
from cnnlib.storage import files

# What NumPy and zipfile raise for a damaged archive, and for an encrypted one.
_DAMAGED = (
    ValueError,
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    AttributeError,
    TypeError,
    EOFError,
    KeyError,
    OverflowError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    NotImplementedError,
    struct.error,
    tokenize.TokenError,
)
_IMAGES = ("x", "images", "image", "data", "imgs")
_LABELS = ("y", "labels", "label", "targets", "target")
_MOST_CLASSES = 2**20
_CHANNELS = (1, 2, 3, 4)


def load_npz(uri: str, class_names: Sequence[str] = (), first_label: int | None = None) -> Source:
    """Reads an archive whose arrays are called `x_train`, `y_train`, `x_test`, … or `train_images`, `train_labels`, ….

    Images are uint8 [rows, height, width] or [rows, height, width, channels]; labels are whole numbers [rows] or
    [rows, 1]. Without a name of a split, all rows are training rows.

    Args:
        uri: the archive.
        class_names, first_label: see `count_from_0`.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the class names leave open which label is the first.
        DatasetError: it is no such archive, or images, labels and class names do not match.
    """
    try:
        with np.load(io.BytesIO(files.read_bytes(uri)), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGED as err:
        raise DatasetError(
            f"{uri} is not an .npz archive of plain arrays: {(str(err) or type(err).__name__).splitlines()[0]}"
        ) from err
    found = _pair(arrays, uri)
    splits = {name: _build_split(uri, name, images, labels) for name, (images, labels) in found.items()}
    given = {name: split.labels for name, split in splits.items()}
    names, classes = count_from_0(given, class_names, first_label, uri)
    splits = {name: replace(split, labels=classes[name]) for name, split in splits.items()}
    shapes = {split.images.shape[1:] for split in splits.values()}
    if len(shapes) > 1:
        raise DatasetError(f"The splits of {uri} have images of different shapes: {sorted(shapes)}.")
    height, width, channels = shapes.pop()
    return Source(
        class_names=names,
        image_shape=(height, width, channels),
        splits=splits,
        description=f"arrays of {uri}",
    )


def _pair(
    arrays: Mapping[str, npt.NDArray[np.generic]], uri: str
) -> dict[str, tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]]:
    """Returns images and labels of every split."""
    by_split: dict[str, dict[str, npt.NDArray[np.generic]]] = {}
    for name, array in arrays.items():
        words = name.lower().replace("-", "_").split("_")
        kinds = [
            kind
            for kind, known in (("images", _IMAGES), ("labels", _LABELS))
            for word in words
            if word in known
        ]
        others = [word for word in words if word not in (*_IMAGES, *_LABELS)]
        split = "train" if not others else SPLIT_NAMES.get(others[0])
        if len(kinds) != 1 or len(others) > 1 or split is None or kinds[0] in by_split.setdefault(split, {}):
            raise _unknown(uri, arrays, name)
        by_split[split][kinds[0]] = array
    incomplete = next((name for name, found in by_split.items() if len(found) < 2), None)
    if not by_split or incomplete:
        raise _unknown(uri, arrays, incomplete)
    order = sorted(by_split, key=("train", "val", "test").index)
    return {name: (by_split[name]["images"], by_split[name]["labels"]) for name in order}


def _unknown(uri: str, arrays: Mapping[str, object], name: str | None) -> DatasetError:
    which = f", and {name} has no one meaning" if name else ""
    return DatasetError(
        f"{uri} has the arrays {', '.join(arrays) or 'none'}{which}. Expected x_train, y_train, x_test, y_test (and "
        "x_val, y_val), or images and labels with the name of a split, one of each."
    )


def _build_split(
    uri: str, name: str, images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]
) -> SourceSplit:
    if images.dtype != np.uint8:
        raise DatasetError(f"The {name} images of {uri} are {images.dtype}{_advise(images)}")
    if images.ndim == 3:
        images = images[..., np.newaxis]
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim != 4 or flat.ndim != 1 or len(images) != len(flat):
        one_hot = " One-hot labels become numbers by labels.argmax(axis=1)." if labels.ndim == 2 else ""
        raise DatasetError(
            f"The {name} images of {uri} have the shape {images.shape}, the labels {labels.shape}. Expected "
            f"(n, height, width[, channels]) and (n,).{one_hot}"
        )
    if images.shape[3] not in _CHANNELS:
        raise DatasetError(
            f"The {name} images of {uri} have the shape {images.shape}. Expected the channels last, at most "
            "4: (n, height, width, channels)."
        )
    if np.issubdtype(flat.dtype, np.floating) and np.array_equal(flat, np.rint(flat)):
        flat = np.rint(flat).astype(np.int64)
    is_whole = np.issubdtype(flat.dtype, np.integer)
    if not is_whole or (len(flat) and not 0 <= flat.min() <= flat.max() < _MOST_CLASSES):
        which = f"{flat.min()}..{flat.max()}" if is_whole else f"of the type {flat.dtype}"
        raise DatasetError(
            f"The {name} labels of {uri} are {which}. Expected whole numbers of 0..{_MOST_CLASSES - 1}."
        )
    return SourceSplit(images=np.ascontiguousarray(images, np.uint8), labels=flat.astype(np.int32))


def _advise(images: npt.NDArray[np.generic]) -> str:
    """Returns what the values of images that are not uint8 are, and how they become pixels, as the end of a message."""
    expected = "Expected uint8 pixels of 0..255"
    if images.dtype == np.bool_:
        return f". {expected}: images.astype('uint8') * 255."
    if not images.size or images.dtype.kind not in "fiu":
        return f". {expected}."
    low, high = images.min(), images.max()
    found = f" of {low:g}..{high:g}. {expected}"
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"{found}: replace what is not a finite number."
    is_whole = images.dtype.kind != "f"
    if low >= 0 and high <= 1 and not is_whole:
        return f"{found}: (images * 255).round().astype('uint8')."
    if low >= 0 and high <= 255:
        return f"{found}: images{'' if is_whole else '.round()'}.astype('uint8')."
    if images.dtype == np.uint16:
        return f"{found}; images of 0..65535 are divided by 257 and rounded."
    if low >= -1 and high <= 1:
        return f"{found}; images of -1..1 become pixels by ((images + 1) * 127.5).round().astype('uint8')."
    return f"{found}."
