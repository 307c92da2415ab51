"""How much a row of each class counts in the training loss. No TensorFlow: the driver checks it before a run."""

from __future__ import annotations

from collections.abc import Sequence

from cnnlib.config import LossConfig
from cnnlib.errors import ConfigError


def class_weights(config: LossConfig, rows_per_class: Sequence[int]) -> tuple[float, ...] | None:
    """Returns one weight per class, None where every row counts the same.

    `balanced` is rows / (classes * rows of the class), as in scikit-learn's `compute_class_weight` (King and
    Zeng 2001): every class then has the same total weight, and the mean over the rows is 1.

    Args:
        config: what was asked for.
        rows_per_class: of the split that is trained on, with the rows held out.

    Raises:
        ConfigError: another number of weights than classes, or a class without rows to balance.

    >>> class_weights(LossConfig(class_weights="balanced"), [10, 30])
    (2.0, 0.6666666666666666)
    """
    asked = config.class_weights
    if asked == "none":
        return None
    if asked == "balanced":
        if 0 in rows_per_class:
            raise ConfigError(
                "loss.class_weights=balanced needs rows of every class. "
                f"Received none of class {list(rows_per_class).index(0)}. Give the weights as numbers."
            )
        rows, classes = sum(rows_per_class), len(rows_per_class)
        return tuple(rows / (classes * count) for count in rows_per_class)
    if len(asked) != len(rows_per_class):
        raise ConfigError(
            f"loss.class_weights must be one per class. Received {len(asked)}, expected {len(rows_per_class)}."
        )
    return tuple(asked)
