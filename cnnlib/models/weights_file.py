"""A file of weights in, the weights of each layer out, with the names that the file gives them. Runs no code of it.

Three formats, told apart by what they hold: the `.keras` file and the `.weights.h5` file of Keras 3, which address
layers by class and order and also state their names, and the HDF5 files of Keras 2, whole models or weights only, which
name them in order. No model is built from the file, so that the code of a user's own layers is not needed.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cnnlib.errors import ModelError

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_SHOWN_BYTES = 16
_MEMBER, _VARS, _NAME = "model.weights.h5", "vars", "name"
_NO_LAYERS = ("optimizer", "seed_generator")


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """The weights of one layer in a file.

    Attributes:
        path: the names of the layers that hold it, from the outermost on, and its own; empty for the model itself.
        place: where Keras 3 stores it, such as `layers/conv2d_1`; None in a file of Keras 2, whose layers are in order.
        datasets: its weights, in the order of `Layer.weights`; they are read only when they are asked for.
    """

    path: tuple[str, ...]
    place: str | None
    datasets: tuple[h5py.Dataset, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of its weights."""
        return [tuple(each.shape) for each in self.datasets]

    def read(self) -> list[npt.NDArray[np.generic]]:
        """Reads its weights."""
        return [_read(each) for each in self.datasets]


@contextmanager
def open_weights(path: Path, name: str) -> Iterator[list[StoredLayer]]:
    """Opens a file of weights for as long as its layers are read.

    Args:
        path: a local file; its format is told by its bytes.
        name: what messages call the file.

    Raises:
        ModelError: it is no such file, damaged, or holds no weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            with h5py.File(_hdf5_file(path, Path(folder), name)) as file:
                yield _list_layers(file, name)
        except (OSError, EOFError, KeyError, zipfile.BadZipFile) as err:
            raise ModelError(
                f"The weights of {name} cannot be read: the file is damaged or cut off ({str(err).strip()}). Copy or "
                "download it again."
            ) from err


def _hdf5_file(path: Path, folder: Path, name: str) -> Path:
    """Returns a file in HDF5: the file itself, or the one that a `.keras` file holds, written into a folder."""
    with path.open("rb") as file:
        head = file.read(_SHOWN_BYTES)
    if head.startswith(_HDF5):
        return path
    if not head.startswith(_ZIP):
        raise ModelError(
            f"{name} is no file of weights. Received {path.stat().st_size} bytes that begin with {head!r}, expected a "
            ".keras file (zip) or a .weights.h5 or .h5 file (HDF5)."
        )
    unpacked = folder / _MEMBER
    with zipfile.ZipFile(path) as archive:
        if _MEMBER not in archive.namelist():
            raise ModelError(f"{name} is a zip file without {_MEMBER}. Expected a .keras file of Keras 3.")
        with archive.open(_MEMBER) as packed, unpacked.open("wb") as file:
            shutil.copyfileobj(packed, file)
    return unpacked


def _list_layers(file: h5py.File, name: str) -> list[StoredLayer]:
    group = file.get("model_weights", file)
    of_keras_2 = _attribute(group, "layer_names") is not None
    layers = list(_layers_of_keras_2(group) if of_keras_2 else _layers_of_keras_3(file))
    if not layers:
        raise ModelError(
            f"{name} holds no weights of layers. Expected a .keras, .weights.h5 or .h5 file of Keras."
        )
    for each in (dataset for layer in layers for dataset in layer.datasets):
        # HDF5 would read any file of this machine that a link or a dataset names.
        if each.external or each.file.filename != file.filename:
            raise ModelError(
                f"The weight {each.name} of {name} lies in another file. Expected all weights in the file."
            )
    return layers


def _layers_of_keras_3(file: h5py.File) -> Iterator[StoredLayer]:
    """Yields the layers with weights: groups of numbered datasets, each called `vars`, in the group of their layer."""
    groups: dict[str, h5py.Group] = {}

    def collect(path: str, found: Any) -> None:
        parent, _, last = path.rpartition("/")
        if last == _VARS and isinstance(found, h5py.Group):
            groups[parent] = found

    file.visititems(collect)  # follows no links, neither inside the file nor to others
    for place, group in groups.items():
        parts = place.split("/") if place else []
        if any(part.startswith(_NO_LAYERS) for part in parts):
            continue
        keys = [str(index) for index in range(len(group))]
        if keys and all(isinstance(group.get(key), h5py.Dataset) for key in keys):
            above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
            path = tuple(_stated_name(each, groups[each]) for each in above if each in groups)
            yield StoredLayer(path=path, place=place, datasets=tuple(group[key] for key in keys))


def _stated_name(place: str, group: h5py.Group) -> str:
    """Returns the name of a layer; earlier versions of Keras 3 do not state it, and the place has its class."""
    stated = group.attrs.get(_NAME)
    return stated if isinstance(stated, str) else place.rpartition("/")[2]


def _layers_of_keras_2(group: h5py.Group) -> Iterator[StoredLayer]:
    """Yields the layers with weights in the order of the model; layers inside of others by the names of their weights.

    The weights of a model inside of a model are listed together, all that are trained before all others. Those of one
    layer are in the order of `Layer.weights` either way.
    """
    for name in _attribute(group, "layer_names") or []:
        held: dict[tuple[str, ...], list[h5py.Dataset]] = {}
        for weight in _attribute(group[name], "weight_names") or []:
            held.setdefault(_path_of_weight(name, weight), []).append(group[name][weight])
        for path, datasets in held.items():
            yield StoredLayer(path=path, place=None, datasets=tuple(datasets))


def _path_of_weight(layer: str, weight: str) -> tuple[str, ...]:
    """Returns the path of the layer that has a weight.

    >>> _path_of_weight("conv", "conv/kernel:0"), _path_of_weight("stem", "stem_conv/kernel:0")
    (('conv',), ('stem', 'stem_conv'))
    """
    inner = weight.removeprefix(f"{layer}/").split("/")[:-1]
    return (layer, *inner)


def _attribute(group: h5py.Group, name: str) -> list[str] | None:
    """Returns a list of texts that is an attribute, or several if it is long; None if there is none."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts = []
        while (key := f"{name}{len(parts)}") in group.attrs:
            parts.append(group.attrs[key])
    if not parts:
        return None
    return [each.decode() if isinstance(each, bytes) else str(each) for part in parts for each in part]


def _read(dataset: h5py.Dataset) -> npt.NDArray[np.generic]:
    values = np.asarray(dataset[()])
    if dataset.attrs.get("dtype") == "bfloat16":
        import ml_dtypes

        values = values.view(ml_dtypes.bfloat16).astype(np.float32)
    return values
