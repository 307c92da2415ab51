"""A model's name in, a Keras model that fits the dataset out.

A name is either registered here, or it is `package.module:function`, a function of the user's own:
`function(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model`. Either way the model takes raw
pixels, float32 0..255 [batch, height, width, channels]. It returns [batch, num_classes]: probabilities if its last
layer is a softmax, else logits.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnlib.errors import CnnlibError, ModelError, nearest
from cnnlib.models.keras_errors import short_text
from cnnlib.shapes import ImageShape

if TYPE_CHECKING:
    import keras

ModelBuilder = Callable[[ImageShape, int], "keras.Model"]

# Names of functions, not functions: the registry is read where TensorFlow must not be loaded.
REGISTERED = {
    "seed-cnn": "cnnlib.models.cnn:build_seed_cnn",
    "small-cnn": "cnnlib.models.cnn:build_small_cnn",
    "dnn": "cnnlib.models.dnn:build_dnn",
}
"""The builder of each registered model, by name; tables of costs list the models in this order."""

# Models without batch normalisation and without random layers.
_ROW_BY_ROW = {"seed-cnn", "dnn"}


def model_names() -> list[str]:
    """Returns the registered names, sorted."""
    return sorted(REGISTERED)


def is_registered(name: str) -> bool:
    """Returns whether a model is one of this project. Those fit every dataset; a user's own must be built to know."""
    return name in REGISTERED


def is_row_by_row(name: str) -> bool:
    """Returns whether the rows of a batch do not influence one another in training.

    The outputs for a row are then the same in every batch, so a batch may be split into chunks that are computed in
    parallel, with the same result. Batch normalisation, for example, uses statistics of the whole batch. It is False
    for a user's own model, about which nothing is known.
    """
    return name in _ROW_BY_ROW


def check_model_name(name: str) -> None:
    """Checks the form of a model's name. Imports nothing.

    Raises:
        ModelError: the name is neither registered nor of the form `package.module:function`.
    """
    module, colon, function = name.partition(":")
    if name in REGISTERED or (colon and module and function.isidentifier()):
        return
    raise ModelError(
        f"Unknown model {name!r}. {nearest(name, REGISTERED)} "
        "Or name a function of your own: package.module:function."
    )


def build_model(name: str, image_shape: ImageShape, num_classes: int) -> keras.Model:
    """Builds the model and checks that it fits the data.

    Args:
        name: a registered name or `package.module:function`.
        image_shape: height, width, channels.
        num_classes: number of classes.

    Raises:
        ModelError: the function cannot be imported or fails, or its model does not fit the data.
    """
    check_model_name(name)
    builder = _import_builder(REGISTERED.get(name, name))
    try:
        model = builder(image_shape, num_classes)
    except CnnlibError:
        raise
    except Exception as err:  # the user's function can raise anything
        raise ModelError(
            f"{name} failed for image_shape={image_shape}, num_classes={num_classes}: {short_text(err)}"
        ) from err
    check_fits(model, name, image_shape, num_classes)
    return model


def check_fits(model: Any, name: str, image_shape: ImageShape, num_classes: int) -> None:
    """Checks that a model takes images of this shape and outputs one value per class.

    Raises:
        ModelError: the model does not fit.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise ModelError(
            f"{name} must return a keras.Model (Keras 3, `import keras`). "
            f"Received {type(model).__module__}.{type(model).__name__}."
        )
    input_shape, output_shape = _one_shape(model, name, "input"), _one_shape(model, name, "output")
    if len(input_shape) != 4 or any(
        have not in (None, want) for have, want in zip(input_shape[1:], image_shape, strict=True)
    ):
        raise ModelError(
            f"{name} does not take this dataset's images. Received an input of shape {input_shape}, "
            f"expected (None, {', '.join(map(str, image_shape))})."
        )
    if tuple(output_shape[1:]) != (num_classes,):
        raise ModelError(
            f"{name} does not fit the number of classes. Received an output of shape {output_shape}, "
            f"expected (None, {num_classes}): one value per class."
        )


def gives_probabilities(model: keras.Model) -> bool:
    """Returns whether the last layer of a model of this project is a softmax; else its outputs are logits.

    For any other model, `cnnlib.models.outputs` decides by what comes out.
    """
    import keras

    last = model.layers[-1]
    if isinstance(last, keras.Sequential | keras.Model):
        return gives_probabilities(last)
    if isinstance(last, keras.layers.Softmax):
        return True
    return getattr(last, "activation", None) is keras.activations.softmax


def _import_builder(path: str) -> ModelBuilder:
    module_name, _, function_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as err:  # the user's module can raise anything
        raise ModelError(
            f"Cannot import {module_name!r} for the model {path!r}: {short_text(err)}. "
            "It must be importable where the job starts and on every worker: start the job in the folder that holds "
            "it, add that folder to PYTHONPATH, or submit it with --working-dir."
        ) from err
    builder = getattr(module, function_name, None)
    if not callable(builder):
        functions = [
            name for name, value in vars(module).items() if callable(value) and not name.startswith("_")
        ]
        raise ModelError(
            f"{module_name} has no function {function_name!r}. {nearest(function_name, functions)}"
        )
    return builder  # type: ignore[no-any-return]


def _one_shape(model: keras.Model, name: str, side: str) -> tuple[int | None, ...]:
    shape = getattr(model, f"{side}_shape", None)
    if not isinstance(shape, tuple) or not all(size is None or isinstance(size, int) for size in shape):
        advice = (
            " Return keras.Model(inputs, net(inputs)) with inputs = keras.Input(image_shape)."
            if shape is None
            else ""
        )
        raise ModelError(
            f"{name} must have exactly one {side} tensor of known rank. Received {shape}.{advice}"
        )
    return shape
