"""A model file in, a Keras model out, or one line that says why not.

A stranger's file is opened as plain Keras opens it, which runs no code from the file. The file of a user's own model,
trained here, may need the user's code: then the function that built the model builds it again, and the file gives the
weights. The code is imported as this process imports modules, by the name in the manifest; none comes from the file.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlib.errors import ModelCodeError, ModelError
from cnnlib.models.keras_errors import find_custom_object, short_reason
from cnnlib.models.probe import OTHER_MACHINE, find_difference, probe_outputs
from cnnlib.models.registry import build_model
from cnnlib.models.source import ModelSource

if TYPE_CHECKING:
    import keras

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_SHOWN_BYTES = 16
_TRAIN_HERE = (
    "A model of your own is scored if it was trained here: jobs.train --model package.module:function."
)


def open_model_file(path: Path, name: str, source: ModelSource | None = None) -> keras.Model:
    """Opens a model file, and checks that its weights are numbers.

    Args:
        path: a local .keras or .h5 file, by its bytes: its name does not count, and it may be renamed.
        name: what messages call the file.
        source: how to build the model where plain Keras cannot open the file; None: that is an error.

    Raises:
        ModelError: the file is no model, cannot be opened, or holds NaN.
        ModelCodeError: the source cannot build the model here, or builds another one.
    """
    path = _with_suffix(path, name)
    if source is not None and not source.opens_in_keras:
        model = rebuild_model(path, name, source)
    else:
        try:
            model = open_in_keras(path, name, _keras_functions())
        except _CodeNeededError:
            if source is None:
                raise
            model = rebuild_model(path, name, source)
    check_weights(model, name)
    return model


def open_in_keras(
    path: Path, name: str, functions: Mapping[str, Callable[..., Any]] | None = None
) -> keras.Model:
    """Opens a model file as plain Keras does, without any code of a user.

    Args:
        path: the file, with the suffix of its format.
        name: what messages call the file.
        functions: functions that the file may use besides those of Keras, by the names in the file.

    Raises:
        ModelError: Keras cannot open it.
    """
    import keras

    try:
        return keras.models.load_model(path, custom_objects=functions, compile=False)
    except Exception as err:  # Keras raises many kinds of errors, depending on what the file holds
        raise _explain(err, path, name) from err


def rebuild_model(path: Path, name: str, source: ModelSource) -> keras.Model:
    """Builds the model of a file by the function that built it for the training, and takes the weights from the file.

    Raises:
        ModelError: the file is damaged.
        ModelCodeError: the function cannot be imported or fails, or it builds another model than the file's.
    """
    try:
        with _dtype_policy(source.dtype_policy):
            model = build_model(source.function, source.image_shape, source.num_classes, source.options)
    except ModelError as err:
        raise ModelCodeError(f"{name} needs the code of its model. {err}") from err
    advice = f"Has the code of {source.function} changed since the training?"
    try:
        model.load_weights(path)
    except Exception as err:  # as above
        if _is_damaged(err):
            raise _explain(err, path, name) from err
        raise ModelCodeError(
            f"{name} does not fit the model that {source.function} builds: {short_reason(err)} {advice}"
        ) from err
    if source.probe_outputs is not None:
        difference = find_difference(
            probe_outputs(model, source.image_shape) or (), source.probe_outputs, OTHER_MACHINE
        )
        if difference is not None:
            raise ModelCodeError(
                f"{name} and {source.function} give another model than was trained: its outputs for noise differ by "
                f"up to {difference:.3g}. {advice}"
            )
    return model


def check_weights(model: keras.Model, name: str) -> None:
    """Checks that no weight is NaN. A layer such as ReLU may hide one, so that the outputs look like numbers.

    Raises:
        ModelError: a weight is NaN.
    """
    import tensorflow as tf

    for weight in model.weights:
        if not tf.as_dtype(weight.dtype).is_floating:
            continue
        count = int(tf.math.count_nonzero(tf.math.is_nan(weight.value)))
        if count:
            raise ModelError(
                f"The weights of {name} are not numbers: {count} of {math.prod(weight.shape)} values of "
                f"{weight.path} are NaN. Its training diverged; choose an earlier epoch, or train again with a lower "
                "learning rate."
            )


@contextmanager
def without_user_code() -> Iterator[None]:
    """Lets Keras forget, for a while, the layers and functions that a user's modules have registered."""
    import keras

    registered = keras.saving.get_custom_objects()
    kept = dict(registered)
    registered.clear()
    try:
        yield
    finally:
        registered.update(kept)


def _keras_functions() -> dict[str, Callable[..., Any]]:
    """Returns what Keras calls the functions of `tf.nn` that tutorials use and that files name in another way."""
    import keras

    return {"softmax_v2": keras.activations.softmax, "log_softmax_v2": keras.activations.log_softmax}


class _CodeNeededError(ModelError):
    """The file holds a model that only its author's code can build."""

    def __reduce__(self) -> tuple[type[ModelError], tuple[object, ...]]:
        return ModelError, self.args


@contextmanager
def _dtype_policy(policy: str) -> Iterator[None]:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _with_suffix(path: Path, name: str) -> Path:
    """Gives a file the suffix by which Keras tells what it holds; some programs write HDF5 into .keras files.

    Raises:
        ModelError: it is neither a zip nor an HDF5 file, or cut off.
    """
    with path.open("rb") as file:
        head = file.read(_SHOWN_BYTES)
    if head.startswith(_HDF5):
        suffix = ".h5"
    elif head.startswith(_ZIP):
        suffix = ".keras"
        if not zipfile.is_zipfile(path):
            raise ModelError(_damaged(name, "its end is missing"))
    else:
        raise ModelError(
            f"Keras cannot open {name}: it is no model. Received {path.stat().st_size} bytes that begin with {head!r}, "
            "expected a .keras file (zip) or an .h5 file (HDF5)."
        )
    return path if path.suffix == suffix else path.rename(path.with_suffix(suffix))


def _explain(err: Exception, path: Path, name: str) -> ModelError:
    """Returns the error of one line for what Keras raised."""
    reason = short_reason(err)
    if _is_damaged(err):
        return ModelError(_damaged(name, reason))
    if "'config.json'" in reason:
        return ModelError(
            f"Keras cannot open {name}: it is a zip file without config.json, expected a .keras file."
        )
    if "No model config found" in reason:
        return ModelError(
            f"Keras cannot open {name}: it holds weights without their model. Expected the file of model.save."
        )
    version = _find_keras_version(path)
    if version is not None and version.startswith("2."):
        return ModelError(
            f"Keras 3 cannot open {name}: Keras {version} wrote it ({reason.rstrip('.')}). {_convert(path)}"
        )
    if "Lambda" in reason:
        return _CodeNeededError(
            f"Keras cannot open {name}: it has a Lambda layer, whose Python code is not run from a file. Expected "
            f"layers of Keras in its place. {_TRAIN_HERE}"
        )
    custom = find_custom_object(err)
    if custom is not None:
        return _CodeNeededError(
            f"Keras cannot open {name}: {custom!r} is no layer or function of Keras. Expected a model of Keras's own "
            f"layers. {_TRAIN_HERE}"
        )
    return _CodeNeededError(f"Keras cannot open {name}: {type(err).__name__}: {reason}")


def _is_damaged(err: Exception) -> bool:
    return isinstance(err, zipfile.BadZipFile | OSError | EOFError) or type(err).__module__ == "zlib"


def _damaged(name: str, reason: str) -> str:
    return f"Keras cannot open {name}: the file is damaged or cut off ({reason}). Copy or download it again."


def _convert(path: Path) -> str:
    if path.suffix == ".keras":
        return (
            "Convert it with Keras 2 (pip install tf_keras): "
            "tf_keras.models.load_model('a.keras', compile=False).save('a.h5'), and evaluate a.h5."
        )
    return "Convert it: build the same model with Keras 3, then model.load_weights('a.h5') and model.save('a.keras')."


def _find_keras_version(path: Path) -> str | None:
    """Returns the version of Keras that wrote a file; None if the file does not say."""
    import h5py

    if path.suffix == ".h5":
        with h5py.File(path) as file:
            version = file.attrs.get("keras_version")
        return version.decode() if isinstance(version, bytes) else version
    with zipfile.ZipFile(path) as archive:
        try:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
        except (KeyError, TypeError, ValueError):
            return None
