"""A Keras model in, files of another format out, and these files in, a function that predicts out.

The only file that knows the formats. docs/export.md says which were tried, and why some are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnlib.errors import ModelError
from cnnlib.export_config import Format
from cnnlib.models.keras_errors import short_text

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]

INPUT_NAME = "images"
"""The name of the input in every format."""
SUFFIXES = {"savedmodel": "", "litert": ".tflite"}
"""What the name of the exported file ends with; empty for a folder."""
ONLY_FLOAT32 = ("litert",)
"""Formats without bfloat16: a model of mixed precision computes in float32 there."""
_SIGNATURE = "serving_default"


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model that was read from exported files.

    Attributes:
        output_name: the name of the output.
        outputs_of: the prediction; takes pixels as the model takes them, [rows, *input_shape], and returns its
            outputs, float32 [rows, classes].
    """

    output_name: str
    outputs_of: Callable[[npt.NDArray[Any]], Floats]


def write_model(model: keras.Model, input_shape: tuple[int, ...], format: Format, path: Path) -> None:
    """Writes a model in a format, with one input called `images`, for batches of any size.

    Args:
        input_shape: the shape in which the model takes one image.
        path: the file, or the folder, with the suffix of the format.

    Raises:
        ModelError: the converter fails.
    """
    import keras

    try:
        signature = [keras.InputSpec(shape=(None, *input_shape), dtype=input_dtype(model), name=INPUT_NAME)]
        if format == "litert":
            model.export(path, format="litert", verbose=False, input_signature=signature)
        else:
            _write_saved_model(model, signature, path)
    except Exception as err:  # of the converter, or of a user's own layers
        raise ModelError(f"The model cannot be converted to {format}: {short_text(err)}") from err


def open_exported(format: Format, path: Path, cpus: int) -> ExportedModel:
    """Opens what `write_model` wrote, as another program would: without Keras, and without the code of the model.

    Args:
        cpus: threads of the interpreter; a SavedModel uses those of TensorFlow in this process.

    Raises:
        ModelError: the files cannot be opened; the prediction raises it where it fails.
    """
    opened = {"savedmodel": _open_saved_model, "litert": _open_litert}[format]
    try:
        exported = opened(path, cpus)
    except Exception as err:  # what the converter wrote may be broken in any way
        raise ModelError(f"The model as {format} cannot be opened: {short_text(err)}") from err

    def outputs_of(inputs: npt.NDArray[Any]) -> Floats:
        try:
            return exported.outputs_of(inputs)
        except Exception as err:  # such as an operation that the interpreter does not have
            raise ModelError(f"The model as {format} cannot predict: {short_text(err)}") from err

    return ExportedModel(output_name=exported.output_name, outputs_of=outputs_of)


def input_dtype(model: keras.Model) -> str:
    """Returns the type of a model's input: float32, or uint8 for some models of users."""
    return str(model.inputs[0].dtype)


def find_mixed_precision(model: keras.Model) -> str | None:
    """Returns the mixed precision in which a model computes, such as mixed_bfloat16; None: it has none."""
    return next((layer.dtype_policy.name for layer in _mixed_layers(model)), None)


def compute_in_float32(model: keras.Model) -> None:
    """Lets a model of mixed precision compute in float32. Its weights are float32 already."""
    import keras

    for layer in _mixed_layers(model):
        layer.dtype_policy = keras.DTypePolicy("float32")


def _mixed_layers(model: keras.Model) -> list[Any]:
    # Keras has no public name for all layers, also those in models and in layers such as TimeDistributed.
    return [layer for layer in model._flatten_layers() if layer.dtype_policy.name.startswith("mixed_")]


def _write_saved_model(model: keras.Model, signature: list[keras.InputSpec], path: Path) -> None:
    import keras

    archive = keras.export.ExportArchive()
    archive.track(model)
    # Not model.export(): Keras 3.15 leaves out `training=False` there, so RandomFlip and others go on to change images.
    archive.add_endpoint("serve", partial(model.__call__, training=False), input_signature=signature)
    archive.write_out(str(path), verbose=False)


def _open_saved_model(path: Path, _cpus: int) -> ExportedModel:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    predict = loaded.signatures[_SIGNATURE]
    [name] = predict.structured_outputs

    # The function does not keep what it was loaded with: `loaded` holds the weights.
    def outputs_of(inputs: npt.NDArray[Any], _weights: Any = loaded) -> Floats:
        outputs = predict(**{INPUT_NAME: tf.constant(inputs)})[name]
        return np.asarray(tf.cast(outputs, tf.float32))

    return ExportedModel(output_name=name, outputs_of=outputs_of)


def _open_litert(path: Path, cpus: int) -> ExportedModel:
    import tensorflow as tf

    with warnings.catch_warnings():
        # It announces its removal in favour of the package ai-edge-litert. The TensorFlow that is pinned here has it.
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(str(path), num_threads=cpus)
    [name] = interpreter.get_signature_list()[_SIGNATURE]["outputs"]
    predict = interpreter.get_signature_runner(_SIGNATURE)

    def outputs_of(inputs: npt.NDArray[Any]) -> Floats:
        return np.asarray(predict(**{INPUT_NAME: inputs})[name], np.float32)

    return ExportedModel(output_name=name, outputs_of=outputs_of)
