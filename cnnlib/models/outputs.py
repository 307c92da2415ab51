"""A model in, what its outputs are: probabilities or logits. Training and evaluation share this decision.

It is made by what comes out for a few images of noise, not by the names of layers: a cast, a function or a model around
the softmax hides it from the names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from cnnlib.errors import ModelError
from cnnlib.models.probe import predict, probe_images

if TYPE_CHECKING:
    import keras

OutputKind = Literal["probabilities", "logits"]

_TOLERANCE = 1e-3  # a sum of float32 probabilities is off by a few 1e-7
_TOLERANCE_16_BIT = 0.03  # a sum of ten bfloat16 probabilities is off by up to 10 * 2**-9


def find_output_kind(model: keras.Model, input_shape: tuple[int, ...], name: str) -> OutputKind:
    """Returns what a model's outputs are.

    Outputs within 0..1 that add up to 1 for all images are probabilities, and all others are logits.

    Args:
        model: a built model with one output per class.
        input_shape: the shape in which the model takes one image.
        name: what messages call the model.

    Raises:
        ModelError: the outputs lie within 0..1 and do not add up to 1, as those of a sigmoid per class.
    """
    # Only the number of pixels counts: the noise is cut into images of any shape.
    noise = probe_images((math.prod(input_shape), 1, 1)).reshape(-1, *input_shape)
    outputs = predict(model, noise).astype(np.float64)
    outputs = outputs[np.isfinite(outputs).all(axis=1)]
    tolerance = _TOLERANCE_16_BIT if _has_16_bits(outputs) else _TOLERANCE
    if not len(outputs) or outputs.min() < 0 or outputs.max() > 1 + tolerance:
        return "logits"
    sums = outputs.sum(axis=1)
    if (abs(sums - 1) <= tolerance).all():
        return "probabilities"
    if ((outputs > 0) & (outputs < 1)).any():
        raise ModelError(
            f"{name} gives neither probabilities nor logits: its outputs lie in 0..1 and add up to "
            f"{sums.min():.3g}..{sums.max():.3g}, as those of a sigmoid per class. Expected a softmax, whose outputs "
            "add up to 1, or no activation at the end."
        )
    return "logits"  # zeros and ones, such as those of a last layer that begins with zeros


def _has_16_bits(outputs: npt.NDArray[np.float64]) -> bool:
    """Returns whether outputs were computed in bfloat16 or float16, whatever type they were cast to since."""
    bits = outputs.astype(np.float32).view(np.uint32)
    return bool((bits & 0xFFFF == 0).all() or (outputs.astype(np.float16) == outputs).all())
