"""The range of the pixels that a stranger's model takes: found in its layers, and checked on rows with labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnlib.errors import ModelError
from cnnlib.evaluate_config import ModelInputs
from cnnlib.metrics.significance import mcnemar_p

if TYPE_CHECKING:
    import keras

DEFAULT: ModelInputs = "0-1"
_RANGES: tuple[ModelInputs, ...] = ("0-255", "0-1", "-1..1", "imagenet")
_COLOURS = 3
# Operations that change neither the range of the pixels nor where they come from.
_PASSED = frozenset(
    (
        *("InputLayer", "Flatten", "Reshape", "Permute", "Cast", "Identity", "Dropout", "ZeroPadding2D"),
        *("Cropping2D", "Resizing", "CenterCrop", "RandomCrop", "RandomFlip", "RandomRotation", "RandomZoom"),
        *("RandomTranslation", "GetItem", "ExpandDims", "Squeeze", "Stack", "Concatenate"),
    )
)
_LARGEST_SCALE = 0.05  # 1/255, 1/127.5 and 1/64 are for raw pixels; 1 and 2 are for pixels of 0..1
_LARGEST_MEAN = 2.0  # the means of ImageNet are 0.4 of 0..1, or 110 of 0..255
_SIGNIFICANCE = 1e-4
# Few rows show a difference less clearly, and a wrong range is worse than a question.
_FEW_ROWS, _SIGNIFICANCE_OF_FEW = 100, 0.05


class Sample(NamedTuple):
    """A few rows with their labels.

    Attributes:
        images: uint8 [rows, height, width, channels].
        labels: [rows], as the model counts the classes.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]


def find_pixel_range(
    model: keras.Model, input_shape: tuple[int, ...], name: str, sample: Sample | None
) -> ModelInputs:
    """Returns the range that a model takes: 0-255 if it scales pixels itself, else 0-1, as in most tutorials.

    Args:
        model: a model whose origin is unknown.
        input_shape: the shape in which it takes one image.
        name: what messages call the model.
        sample: the model must not be better on these rows with another range; None: there are no rows.

    Raises:
        ModelError: it is better with another range than with the one that its layers suggest.
    """
    assumed = find_own_scaling(model) or DEFAULT
    if sample is None or not len(sample.labels):
        return assumed
    level = _SIGNIFICANCE if len(sample.labels) >= _FEW_ROWS else _SIGNIFICANCE_OF_FEW
    ranges = [each for each in _RANGES if each != "imagenet" or sample.images.shape[-1] == _COLOURS]
    correct = {each: _score(model, input_shape, sample, each) for each in ranges}
    for other in ranges:
        won = int((correct[other] & ~correct[assumed]).sum())
        lost = int((correct[assumed] & ~correct[other]).sum())
        if won > lost and mcnemar_p(lost, won) < level:
            best = max(ranges, key=lambda each: int(correct[each].sum()))
            counts = ", ".join(f"{int(correct[each].sum())} with {each}" for each in ranges)
            flag = "--preprocess=imagenet" if best == "imagenet" else f"--pixel-range={best}"
            raise ModelError(
                f"The range of the pixels that {name} takes is not clear. Of {len(sample.labels)} rows, it is right "
                f"about {counts}; {assumed} was expected. Give {flag}, or the range that it was trained "
                "with."
            )
    return assumed


def find_own_scaling(model: keras.Model) -> ModelInputs | None:
    """Returns the range that a model's own preprocessing takes; None if it begins with another layer."""
    for operation in _operations(model):
        kind = type(operation).__name__
        if kind == "Rescaling":
            return "0-255" if np.max(np.abs(operation.scale)) <= _LARGEST_SCALE else "0-1"
        if kind == "Normalization":
            mean = operation.input_mean if operation.input_mean is not None else operation.mean
            return "0-255" if np.max(np.abs(np.asarray(mean))) > _LARGEST_MEAN else "0-1"
        if kind not in _PASSED:
            return None
    return None


def _operations(model: Any) -> Iterator[Any]:
    """Yields the layers and operations of a model and of the models in it, in the order of the computation."""
    for operation in getattr(model, "operations", None) or model.layers:
        if hasattr(operation, "layers"):
            yield from _operations(operation)
        else:
            yield operation


def _score(
    model: keras.Model, input_shape: tuple[int, ...], sample: Sample, pixel_range: ModelInputs
) -> npt.NDArray[np.bool_]:
    """Returns which rows of a sample the model is right about."""
    from cnnlib.models.pixels import pixels_to_inputs
    from cnnlib.models.probe import predict

    inputs = pixels_to_inputs(sample.images, pixel_range).numpy().reshape(-1, *input_shape)
    correct: npt.NDArray[np.bool_] = predict(model, inputs).argmax(axis=1) == sample.labels
    return correct
