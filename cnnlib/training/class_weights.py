"""Computes the weight of each class in the training loss, without TensorFlow, so that the driver can check it."""

from __future__ import annotations

from collections.abc import Sequence

from cnnlib.config import LossConfig
from cnnlib.errors import ConfigError


def class_weights(config: LossConfig, rows_per_class: Sequence[int]) -> tuple[float, ...] | None:
    """Returns one weight per class; None if every row counts the same.

    `balanced` is rows / (classes * rows of the class), as in scikit-learn's `compute_class_weight` (King and
    Zeng 2001): every class then has the same total weight, and the mean over the rows is 1.

    Args:
        config: the loss config, which gives the weights or says how to compute them.
        rows_per_class: rows of each class in the training split, validation rows included.

    Raises:
        ConfigError: there are not as many weights as classes, or a class to balance has no rows.

    >>> class_weights(LossConfig(class_weights="balanced"), [10, 30])
    (2.0, 0.6666666666666666)
    """
    weights = config.class_weights
    if weights == "none":
        return None
    if weights == "balanced":
        if 0 in rows_per_class:
            raise ConfigError(
                "loss.class_weights=balanced needs rows of every class. "
                f"Received none of class {list(rows_per_class).index(0)}. Give the weights as numbers."
            )
        rows, classes = sum(rows_per_class), len(rows_per_class)
        return tuple(rows / (classes * count) for count in rows_per_class)
    if len(weights) != len(rows_per_class):
        raise ConfigError(
            f"loss.class_weights must be one per class. Received {len(weights)}, expected {len(rows_per_class)}."
        )
    return tuple(weights)
