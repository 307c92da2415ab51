"""A model's name in, a Keras model that fits the dataset out.

A name is either registered here, or it is `package.module:function`, a function of the user's own:
`function(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model`. Either way the model takes raw
pixels, float32 0..255 [batch, height, width, channels]. It returns [batch, num_classes]: probabilities if its last
layer is a softmax, else logits.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnlib.errors import CnnlibError, ModelError, nearest
from cnnlib.model_options import ModelOptions
from cnnlib.models.keras_errors import short_text
from cnnlib.models.outputs import OutputKind, find_output_kind
from cnnlib.models.zoo.entries import ZOO, check_known, resolve_options
from cnnlib.shapes import ImageShape

if TYPE_CHECKING:
    import keras

ModelBuilder = Callable[..., "keras.Model"]

_NO_OPTIONS = ModelOptions()


def model_names() -> list[str]:
    """Returns the registered names, sorted."""
    return sorted(ZOO)


def is_registered(name: str) -> bool:
    """Returns whether a model is one of this project. Those fit every dataset; a user's own must be built to know."""
    return name in ZOO


def is_row_by_row(name: str, options: ModelOptions = _NO_OPTIONS) -> bool:
    """Returns whether the rows of a batch do not influence one another in training.

    The outputs for a row are then the same in every batch, so a batch may be split into chunks that are computed in
    parallel, with the same result. Batch normalisation, for example, uses statistics of the whole batch. It is False
    for a user's own model, about which nothing is known.
    """
    return name in ZOO and resolve_options(name, options).is_row_by_row


def check_model_name(name: str) -> None:
    """Checks the form of a model's name. Imports nothing.

    Raises:
        ModelError: the name is neither registered nor of the form `package.module:function`.
    """
    module, colon, function = name.partition(":")
    if colon and ("/" in module or module.endswith(".py")):
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ModelError(
            f"A model's name is package.module:function, and no path. Received {name!r}. Try {dotted}:{function}."
        )
    if name in ZOO or (colon and module and function.isidentifier()):
        return
    raise ModelError(
        f"Unknown model {name!r}. {nearest(name, ZOO)} "
        "Or name a function of your own: package.module:function."
    )


def check_model(name: str, options: ModelOptions, image_shape: ImageShape | None = None) -> None:
    """Checks what can be known about a model without building it: its name, its options and the size of the images.

    Args:
        name: see `build_model`.
        options: see `build_model`. Those of a user's own function are checked when it is imported.
        image_shape: height, width, channels; None: not checked.

    Raises:
        ModelError: the model cannot be built.
    """
    check_model_name(name)
    if name in ZOO:
        resolved = resolve_options(name, options)
        if image_shape is not None:
            resolved.check_images(name, image_shape)


def build_model(
    name: str, image_shape: ImageShape, num_classes: int, options: ModelOptions = _NO_OPTIONS
) -> keras.Model:
    """Builds the model and checks that it fits the data.

    Args:
        name: a registered name or `package.module:function`.
        image_shape: height, width, channels.
        num_classes: number of classes.
        options: what to change in the model.

    Raises:
        ModelError: the function cannot be imported or fails, has no such option, or its model does not fit the data.
    """
    check_model(name, options, image_shape)
    try:
        model = _call_builder(name, image_shape, num_classes, options)
    except CnnlibError:
        raise
    except Exception as err:  # the user's function can raise anything
        raise ModelError(
            f"{options.label(name)} failed for image_shape={image_shape}, num_classes={num_classes}: {short_text(err)}"
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


def check_trainable(model: keras.Model, name: str) -> None:
    """Checks that a model has something to train.

    Raises:
        ModelError: it has not.
    """
    if not model.trainable_variables:
        raise ModelError(f"{name} has nothing to train: no trainable weights.")


def find_trained_outputs(model: keras.Model, name: str, image_shape: ImageShape) -> OutputKind:
    """Returns what the outputs of a new model are; for a model of this project its last layer tells, which is quicker.

    Raises:
        ModelError: they are neither probabilities nor logits.
    """
    if ":" in name:
        return find_output_kind(model, image_shape, name)
    return "probabilities" if gives_probabilities(model) else "logits"


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


def _call_builder(name: str, image_shape: ImageShape, num_classes: int, options: ModelOptions) -> Any:
    """Calls the function that builds a model: one of ours with its options, a user's with keyword arguments."""
    if name in ZOO:
        builder = _import_builder(ZOO[name].builder)
        return builder(image_shape, num_classes, resolve_options(name, options))
    builder = _import_builder(name)
    if options.given():
        _check_takes(builder, name, options)
    return builder(image_shape, num_classes, **options.given())


def _check_takes(builder: ModelBuilder, name: str, options: ModelOptions) -> None:
    """Checks that a user's function has a keyword argument for every option that is given."""
    parameters = list(inspect.signature(builder).parameters.values())
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return
    # The first two are the image shape and the number of classes.
    named = [each for each in parameters[2:] if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    check_known(name, options, {each.name: each for each in named})


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
