"""The arithmetic that a training step cannot do without: a model's cost in, floating-point operations out."""

from __future__ import annotations

from cnnlib.models.growth import Cost, registered_cost

SEED_CNN = registered_cost("seed-cnn", (28, 28, 1), 10)


def training_flops(cost: Cost) -> int:
    """Floating-point operations to train on one image: three times those of the forward pass.

    The backward pass does twice what the forward pass does, for the gradient by the inputs and the one by the weights
    (https://arxiv.org/abs/2001.08361, 2.1). The optimizer is left out, as what `Cost` leaves out: together below 2 %.

    >>> training_flops(SEED_CNN) == 3 * SEED_CNN.flops
    True
    """
    return 3 * cost.flops
