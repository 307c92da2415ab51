"""What a registered model costs at any image size, by arithmetic alone: no TensorFlow, no weights, milliseconds.

A model here is the list of rules that its layers follow, from the shape of an image to that of its classes. A test
holds every figure equal to the Keras model of the same name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cnnlib.shapes import ImageShape

Shape = tuple[int, ...]

BYTES_PER_VALUE = 4  # float32

IMAGE_SIZES = ((28, 28), (224, 224), (720, 1280), (1080, 1920), (2160, 3840))
"""Height and width: Fashion-MNIST, ImageNet, HD, Full HD, 4K."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model takes.

    Attributes:
        parameters: numbers that it holds, trained or not.
        flops: floating-point operations of its convolutions and dense layers for one image, a multiplication and an
            addition counted as two. Biases, activations, normalisations and poolings are left out: a few per cent.
        activation_values: values that all its layers give for one image, together; training keeps them all for the
            way back. A layer that only reshapes gives none of its own.
    """

    parameters: int
    flops: int
    activation_values: int

    @property
    def activation_bytes(self) -> int:
        """The same in float32."""
        return BYTES_PER_VALUE * self.activation_values


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A model's cost at one size of its images.

    Attributes:
        model: its registered name.
        image_shape: height, width, channels.
    """

    model: str
    image_shape: ImageShape
    cost: Cost


class _Step(NamedTuple):
    """What a layer makes of its input's shape, and what that takes."""

    shape: Shape
    parameters: int = 0
    flops: int = 0
    values: int = 0


_Rule = Callable[[Shape], _Step]


def kernel_flops(kernel: Sequence[int], positions: int) -> int:
    """Floating-point operations of a kernel that is applied at so many positions.

    One multiplication and one addition per kernel element and position (https://arxiv.org/abs/2001.08361, 2.1).

    >>> kernel_flops((3, 3, 1, 2), 10)
    360
    """
    return 2 * math.prod(kernel) * positions


def registered_cost(model: str, image_shape: ImageShape, num_classes: int) -> Cost:
    """The cost of a registered model for images of this shape.

    Args:
        model: seed-cnn, small-cnn or dnn.
        image_shape: height, width, channels.
        num_classes: size of the last layer.

    >>> registered_cost("seed-cnn", (28, 28, 1), 10).parameters
    47090
    """
    shape: Shape = image_shape
    steps = []
    for rule in (*_RULES[model], _dense(num_classes)):
        steps.append(rule(shape))
        shape = steps[-1].shape
    return Cost(
        parameters=sum(step.parameters for step in steps),
        flops=sum(step.flops for step in steps),
        activation_values=sum(step.values for step in steps),
    )


def list_growth(channels: int = 1, num_classes: int = 10) -> list[Growth]:
    """The cost of every registered model at every one of `IMAGE_SIZES`; only the size changes, not the layers."""
    return [
        Growth(model=model, image_shape=shape, cost=registered_cost(model, shape, num_classes))
        for model in _RULES
        for shape in ((height, width, channels) for height, width in IMAGE_SIZES)
    ]


def _rescaling(shape: Shape) -> _Step:
    return _Step(shape, values=math.prod(shape))


def _conv(filters: int) -> _Rule:
    """A 3x3 convolution with a bias and zeros around the image; its activation is part of it."""

    def rule(shape: Shape) -> _Step:
        height, width, channels = shape
        kernel = (3, 3, channels, filters)
        values = height * width * filters
        return _Step(
            (height, width, filters),
            parameters=math.prod(kernel) + filters,
            flops=kernel_flops(kernel, height * width),
            values=values,
        )

    return rule


def _conv_block(filters: int, strides: int = 1) -> _Rule:
    """A 3x3 convolution without a bias, a normalisation (four numbers per filter) and a ReLU: three layers."""

    def rule(shape: Shape) -> _Step:
        height, width, channels = math.ceil(shape[0] / strides), math.ceil(shape[1] / strides), shape[2]
        kernel = (3, 3, channels, filters)
        return _Step(
            (height, width, filters),
            parameters=math.prod(kernel) + 4 * filters,
            flops=kernel_flops(kernel, height * width),
            values=3 * height * width * filters,
        )

    return rule


def _pool(shape: Shape) -> _Step:
    pooled = (shape[0] // 2, shape[1] // 2, shape[2])
    return _Step(pooled, values=math.prod(pooled))


def _global_pool(shape: Shape) -> _Step:
    return _Step(shape[-1:], values=shape[-1])


def _flatten(shape: Shape) -> _Step:
    return _Step((math.prod(shape),))


def _dense(units: int) -> _Rule:
    def rule(shape: Shape) -> _Step:
        kernel = (shape[0], units)
        return _Step(
            (units,), parameters=math.prod(kernel) + units, flops=kernel_flops(kernel, 1), values=units
        )

    return rule


# As cnnlib/models/cnn.py and dnn.py build them, but for the last layer, which has a unit per class.
_RULES: dict[str, tuple[_Rule, ...]] = {
    "seed-cnn": (
        _rescaling,
        *(_conv(64), _conv(32), _pool),
        *(_conv(32), _conv(16), _pool),
        *(_conv(16), _conv(8), _pool),
        *(_flatten, _dense(128)),
    ),
    "small-cnn": (
        _rescaling,
        *(_conv_block(24), _conv_block(48, strides=2), _conv_block(64), _pool),
        *(_conv_block(96), _conv_block(96), _global_pool),
    ),
    "dnn": (_rescaling, _flatten, _dense(256), _dense(128)),
}
