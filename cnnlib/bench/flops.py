"""Counts the floating-point operations of a training step: the cost of a model in, FLOPs per image out."""

from __future__ import annotations

from cnnlib.models.cost_table import CostAtSize, registered_cost

SEED_CNN = registered_cost("seed-cnn", (28, 28, 1))


def training_flops(cost: CostAtSize) -> int:
    """Returns the floating-point operations to train on one image: three times those of the forward pass.

    The backward pass takes twice the operations of the forward pass: for the gradients by the inputs and by the weights
    (https://arxiv.org/abs/2001.08361, 2.1). The optimizer is left out, and what the model's cost leaves out: together
    below 2 %.

    >>> training_flops(SEED_CNN) == 3 * SEED_CNN.flops_per_image
    True
    """
    return 3 * cost.flops_per_image
