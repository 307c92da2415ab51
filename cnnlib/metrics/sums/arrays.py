"""Labels and probabilities as they come in, checked once: what is no label or no probability goes no further."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST_PROBABILITY = 1 + 1e-3  # a softmax in low precision may exceed 1 by this much


def as_labels(name: str, labels: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Labels as int64 [rows].

    Args:
        name: what the error calls them.

    Raises:
        ValueError: they are not whole numbers in 0..num_classes-1.
    """
    values = np.asarray(labels)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise ValueError(f"{name} must be integers [rows]. Received {values.dtype} {list(values.shape)}.")
    outside = values[(values < 0) | (values >= num_classes)]
    if outside.size:
        raise ValueError(f"{name} must lie in 0..{num_classes - 1}. Received {outside[0]}.")
    return values.astype(np.int64)


def as_probabilities(probabilities: ArrayLike) -> NDArray[np.float32]:
    """Probabilities as float32 [rows, classes], the precision that models give; others are rounded to it.

    Raises:
        ValueError: another number of dimensions, or a value outside 0..1 or NaN.
    """
    shares = np.asarray(probabilities, np.float32)
    if shares.ndim != 2:
        raise ValueError(f"probabilities must be [rows, classes]. Received {list(shares.shape)}.")
    if not shares.size:
        return shares
    low, high = shares.min(), shares.max()
    # Asked this way round, because a NaN, which min and max hand on, answers every comparison with False.
    if not (low >= 0 and high <= LARGEST_PROBABILITY):
        raise ValueError(
            f"probabilities must lie in 0..1. Received {low}..{high}. "
            "Put a softmax after a model that gives logits; a NaN comes from weights that diverged."
        )
    return shares


def as_scored(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The labels and probabilities of the same rows: int64 [rows], float32 [rows, classes].

    Raises:
        ValueError: see `as_labels` and `as_probabilities`, or their numbers of rows differ.
    """
    shares = as_probabilities(probabilities)
    true = as_labels("labels", labels, shares.shape[1])
    if len(true) != len(shares):
        raise ValueError(f"Every row needs a label. Received {len(shares)} predictions, {len(true)} labels.")
    return true, shares
