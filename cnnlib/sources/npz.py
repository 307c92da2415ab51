"""Reads images from NumPy's `.npz` archives, such as Keras's `mnist.npz`: images and labels of each split."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.errors import DatasetError
from cnnlib.storage import files

_IMAGES = ("x", "images", "image", "data", "imgs")
_LABELS = ("y", "labels", "label", "targets", "target")
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def load_npz(uri: str, class_names: Sequence[str] = ()) -> Source:
    """Reads an archive whose arrays are called `x_train`, `y_train`, `x_test`, … or `train_images`, `train_labels`, ….

    Images are uint8 [rows, height, width] or [rows, height, width, channels]; labels are whole numbers [rows] or
    [rows, 1]. Without a name of a split, all rows are training rows.

    Raises:
        NotFoundError: there is no such file.
        DatasetError: it is no such archive, or images and labels do not match.
    """
    try:
        with np.load(io.BytesIO(files.read_bytes(uri)), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as err:
        raise DatasetError(
            f"{uri} is not an .npz archive of plain arrays: {str(err).splitlines()[0]}"
        ) from err
    found = _pair(arrays, uri)
    splits = {name: _build_split(uri, name, images, labels) for name, (images, labels) in found.items()}
    last = max((int(split.labels.max(initial=0)) for split in splits.values()), default=0)
    names = tuple(class_names) or tuple(map(str, range(last + 1)))
    if len(names) <= last:
        raise DatasetError(f"The labels of {uri} go up to {last}, but there are {len(names)} class names.")
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
        split = next((_SPLITS[word] for word in words if word in _SPLITS), "train")
        for kind, known in (("images", _IMAGES), ("labels", _LABELS)):
            if any(word in known for word in words):
                by_split.setdefault(split, {})[kind] = array
    pairs = {name: (found["images"], found["labels"]) for name, found in by_split.items() if len(found) == 2}
    if not pairs or len(pairs) < len(by_split):
        raise DatasetError(
            f"{uri} has the arrays {', '.join(arrays) or 'none'}. Expected x_train, y_train, x_test, y_test, or "
            "images and labels with the name of a split."
        )
    order = ("train", "val", "test")
    return {name: pairs[name] for name in order if name in pairs}


def _build_split(
    uri: str, name: str, images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]
) -> SourceSplit:
    if images.dtype != np.uint8:
        raise DatasetError(
            f"The {name} images of {uri} are {images.dtype}. Expected uint8 pixels of 0..255; multiply images of 0..1 "
            "by 255, round them and store them as uint8."
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim != 4 or flat.ndim != 1 or len(images) != len(flat):
        raise DatasetError(
            f"The {name} images of {uri} have the shape {images.shape}, the labels {labels.shape}. Expected "
            "(n, height, width[, channels]) and (n,)."
        )
    if not np.issubdtype(flat.dtype, np.integer) or (len(flat) and flat.astype(np.int64).min() < 0):
        raise DatasetError(f"The {name} labels of {uri} are {flat.dtype}. Expected whole numbers from 0.")
    return SourceSplit(images=np.ascontiguousarray(images, np.uint8), labels=flat.astype(np.int32))
