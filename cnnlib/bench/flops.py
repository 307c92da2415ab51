"""Computes the floating-point operations of a training step from the cost of a model."""

from __future__ import annotations

from cnnlib.models.growth import Cost, registered_cost

SEED_CNN = registered_cost("seed-cnn", (28, 28, 1), 10)


def training_flops(cost: Cost) -> int:
    """Returns the floating-point operations to train on one image: three times those of the forward pass.

    The backward pass takes twice the operations of the forward pass: one gradient with respect to the inputs, one with
    respect to the weights (https://arxiv.org/abs/2001.08361, 2.1). The optimizer, and what `Cost` leaves out, are not
    counted: together they are below 2 %.

    >>> training_flops(SEED_CNN) == 3 * SEED_CNN.flops
    True
    """
    return 3 * cost.flops
