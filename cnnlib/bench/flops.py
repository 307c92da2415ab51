"""The arithmetic that a training step cannot do without: shapes in, floating-point operations out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Layer(NamedTuple):
    """A layer that multiplies: its kernel's shape, and at how many positions it is applied to one image."""

    kernel: tuple[int, ...]
    positions: int


# build_seed_cnn for 28x28x1 images and 10 classes; a test counts its parameters.
SEED_CNN = (
    Layer((3, 3, 1, 64), 28 * 28),
    Layer((3, 3, 64, 32), 28 * 28),
    Layer((3, 3, 32, 32), 14 * 14),
    Layer((3, 3, 32, 16), 14 * 14),
    Layer((3, 3, 16, 16), 7 * 7),
    Layer((3, 3, 16, 8), 7 * 7),
    Layer((72, 128), 1),
    Layer((128, 10), 1),
)


def training_flops(layers: Sequence[Layer]) -> int:
    """Floating-point operations to train on one image: three times those of the forward pass.

    A forward pass does one multiplication and one addition per kernel element and position. The backward pass does
    that twice, for the gradient by the inputs and the one by the weights (https://arxiv.org/abs/2001.08361, 2.1).
    Biases, activations, poolings and the optimizer are left out: together below 2 %.

    >>> training_flops([Layer((3, 3, 1, 2), 10)])
    1080
    """
    return 3 * sum(2 * math.prod(layer.kernel) * layer.positions for layer in layers)
