"""Checks labels and probabilities once, when they arrive: later code relies on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST_PROBABILITY = 1 + 1e-3  # a softmax in low precision may exceed 1 by this much


def as_labels(name: str, labels: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Returns labels as int64 [rows].

    Args:
        name: the name of the array in the error message.
        labels: integers [rows].
        num_classes: labels lie in 0..num_classes-1.

    Raises:
        ValueError: they are not integers [rows] in 0..num_classes-1.
    """
    values = np.asarray(labels)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise ValueError(f"{name} must be integers [rows]. Received {values.dtype} {list(values.shape)}.")
    outside = values[(values < 0) | (values >= num_classes)]
    if outside.size:
        raise ValueError(f"{name} must lie in 0..{num_classes - 1}. Received {outside[0]}.")
    return values.astype(np.int64)


def as_probabilities(probabilities: ArrayLike) -> NDArray[np.float32]:
    """Returns probabilities as float32 [rows, num_classes], the precision of a model's output.

    Raises:
        ValueError: another number of dimensions, or a value outside 0..1 or NaN.
    """
    values = np.asarray(probabilities, np.float32)
    if values.ndim != 2:
        raise ValueError(f"probabilities must be [rows, classes]. Received {list(values.shape)}.")
    if not values.size:
        return values
    low, high = values.min(), values.max()
    # Not `low < 0 or high > …`: min and max of a NaN are NaN, and every comparison with NaN is False.
    if not (low >= 0 and high <= LARGEST_PROBABILITY):
        raise ValueError(
            f"probabilities must lie in 0..1. Received {low}..{high}. "
            "Add a softmax to a model whose output is logits; a NaN comes from weights that diverged."
        )
    return values


def as_scored(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the labels and probabilities of the same rows: int64 [rows], float32 [rows, num_classes].

    Raises:
        ValueError: see `as_labels` and `as_probabilities`, or their numbers of rows differ.
    """
    checked_probabilities = as_probabilities(probabilities)
    num_rows, num_classes = checked_probabilities.shape
    checked_labels = as_labels("labels", labels, num_classes)
    if len(checked_labels) != num_rows:
        raise ValueError(
            f"Every row needs a label. Received {num_rows} predictions, {len(checked_labels)} labels."
        )
    return checked_labels, checked_probabilities
