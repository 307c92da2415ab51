"""Proves, before a training, that what it will save can be opened again and is the same model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnlib.errors import InputError, ModelCodeError, ModelError
from cnnlib.models.keras_errors import find_custom_object, short_reason
from cnnlib.models.model_file import open_in_keras, rebuild_model, without_user_code
from cnnlib.models.probe import SAME_MACHINE, Floats, find_difference, predict, probe_images
from cnnlib.models.source import ModelSource

if TYPE_CHECKING:
    import keras

_SAVED = "the saved model"


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """How the files of a model open again.

    Attributes:
        opens_in_keras: True if plain Keras opens them; False if they need the function that built the model.
        reason: why plain Keras does not open them; empty if it does.
    """

    opens_in_keras: bool
    reason: str = ""


def check_round_trip(model: keras.Model, source: ModelSource) -> RoundTrip:
    """Saves a model, opens the file again as the evaluation will, and compares the outputs for a few images.

    Args:
        model: a built model. Its weights are changed: zeros and ones, as in a new model, would hide differences.
        source: how it was built.

    Raises:
        ModelError: it cannot be saved, cannot be opened again, or gives other outputs then.
    """
    images = probe_images(source.image_shape)
    _move_weights(model)
    expected = predict(model, images)
    random = find_difference(predict(model, images), expected, SAME_MACHINE) is not None
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "model.keras")
        try:
            model.save(path)
        except Exception as err:  # the user's layers can raise anything
            raise ModelError(
                f"{source.function} builds a model that cannot be saved: {short_reason(err)}"
            ) from err
        reason = _open_and_compare(path, images, None if random else expected)
        if not reason:
            return RoundTrip(opens_in_keras=True)
        try:
            rebuilt = rebuild_model(path, _SAVED, source)
        except (ModelError, ModelCodeError) as err:
            raise ModelError(
                f"{source.function} builds a model whose file cannot be opened again: {_reason(err)} Expected the same "
                "layers at every call."
            ) from err
        difference = None if random else find_difference(predict(rebuilt, images), expected, SAME_MACHINE)
    if difference is not None:
        raise ModelError(
            f"{source.function} builds a model that cannot be saved and opened again: its outputs then differ by up to "
            f"{difference:.3g}. Expected all of its state in weights (add_weight) and in the arguments of its layers."
        )
    return RoundTrip(opens_in_keras=False, reason=reason)


def _open_and_compare(path: Path, images: Floats, expected: Floats | None) -> str:
    """Opens a file in plain Keras; returns why it does not open, or how the model differs. Empty: it is the same."""
    try:
        with without_user_code():
            opened = open_in_keras(path, _SAVED)
        outputs = predict(opened, images)
    except ModelError as err:
        return _reason(err)
    except Exception as err:  # a layer that Keras took for another may fail when it is called
        return f"{type(err).__name__}: {short_reason(err)}"
    difference = None if expected is None else find_difference(outputs, expected, SAME_MACHINE)
    return (
        ""
        if difference is None
        else f"Keras opens another model: its outputs differ by up to {difference:.3g}"
    )


def _reason(err: InputError) -> str:
    """Returns what Keras said, without the advice for strangers' files."""
    cause = err.__cause__
    if cause is None:
        return str(err)
    custom = find_custom_object(cause)
    return short_reason(cause) if custom is None else f"{custom!r} is no layer or function of Keras"


def _move_weights(model: keras.Model) -> None:
    """Adds a little to every weight, so that no bias is 0 and no factor 1. A variance stays positive."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    for weight in model.weights:
        if tf.as_dtype(weight.dtype).is_floating:
            weight.assign_add(tf.cast(0.05 * random.random(tuple(weight.shape)), weight.dtype))
