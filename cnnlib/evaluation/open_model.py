"""A target's model file in, a Keras model out that takes the images of the data and gives one value per class."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cnnlib.errors import CheckpointError, DigestError, ModelError
from cnnlib.evaluate_config import Outputs
from cnnlib.evaluation.target import Target
from cnnlib.models.model_file import open_model_file
from cnnlib.models.two_classes import give_both_classes
from cnnlib.shapes import ImageShape
from cnnlib.storage import publish

if TYPE_CHECKING:
    import keras


class OpenedModel(NamedTuple):
    """A model with one value per class, and what these values are."""

    model: keras.Model
    outputs: Outputs


def open_model(target: Target, *, num_classes: int, outputs: Outputs) -> OpenedModel:
    """Downloads and opens a target's model, and checks its output.

    A model of two classes with one output is given an output for each class; these are then probabilities.

    Args:
        target: the model file.
        num_classes: number of classes of the dataset.
        outputs: what the outputs of the model are.

    Raises:
        CheckpointError: the file's bytes are not those of its digest.
        ModelError: the file cannot be opened, or the model does not have one output of one value per class.
        ModelCodeError: the code of a user's own model is missing or has changed.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "model")
        try:
            publish.download_checked(target.model_uri, path, target.digest)
        except DigestError as err:
            raise CheckpointError(f"{err} Its bytes have changed since it was saved or found.") from err
        model = open_model_file(path, target.model_uri, target.source)
    expected = f"expected (None, {num_classes}): one value per class."
    output = _one_shape(model, target, "output", expected)
    if output[1:] == (1,) and num_classes == 2:
        return OpenedModel(give_both_classes(model, target.uri, outputs), "probabilities")
    if output[1:] != (num_classes,):
        raise ModelError(
            f"{target.uri} does not fit the number of classes. Received a model with output {output}, {expected}"
        )
    return OpenedModel(model, outputs)


def find_input_shape(model: keras.Model, target: Target, image_shape: ImageShape) -> tuple[int, ...]:
    """Returns the shape in which a model takes one image: unchanged, without its single channel, or flat.

    Raises:
        ModelError: the model takes no such image, or more than one input.
    """
    expected = f"expected (None, {', '.join(map(str, image_shape))})."
    received = _one_shape(model, target, "input", expected)
    height, width, channels = image_shape
    without_channel = [(height, width)] if channels == 1 else []
    for shape in (image_shape, *without_channel, (math.prod(image_shape),)):
        fits = len(received) == len(shape) + 1 and all(
            want in (None, have) for want, have in zip(received[1:], shape, strict=True)
        )
        if fits:
            return shape
    raise ModelError(
        f"{target.uri} does not take this dataset's images. Received a model with input {received}, {expected} "
        "Evaluate it on a dataset that was prepared with the model's image size and channels."
    )


def _one_shape(
    model: keras.Model, target: Target, side: Literal["input", "output"], expected: str
) -> tuple[int | None, ...]:
    """Returns the shape of a model's only input or output, with the batch.

    Raises:
        ModelError: it has several, or it was saved before it had any.
    """
    shape = getattr(model, f"{side}_shape", None)
    if isinstance(shape, tuple) and all(size is None or isinstance(size, int) for size in shape):
        return shape
    if shape is None:
        raise ModelError(
            f"{target.uri} has no {side} shape, {expected} Begin the model with keras.Input, or call it once, "
            "and save it again."
        )
    shapes = list(shape.values()) if isinstance(shape, dict) else list(shape)
    raise ModelError(
        f"{target.uri} has {len(shapes)} {side}s. Received {', '.join(map(str, shapes))}, {expected} "
        f"Save a model with the one {side} that counts: keras.Model(inputs, outputs)."
    )
