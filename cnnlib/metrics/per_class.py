"""Shares of rows and the intervals they lie in. NumPy only, no I/O."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The 97.5 % quantile of the normal distribution: two-sided 95 %.
Z_95 = 1.959963984540054


class Proportion(NamedTuple):
    """A share of rows and its 95 % Wilson interval, each in 0..1; all three None where there are no rows."""

    fraction: float | None
    low: float | None
    high: float | None


def wilson_interval(
    correct: ArrayLike, total: ArrayLike, z: float = Z_95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interval in which a proportion lies, given `correct` hits of `total` tries.

    Unlike p ± z·sqrt(p(1-p)/n), it stays within 0..1 and has a width where every row, or none, is correct.
    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of
    the American Statistical Association 22 (1927), 209-212.

    Args:
        correct: integers of any shape, in 0..total.
        total: integers of the same shape.
        z: half-width in standard normal deviations; the default gives a 95 % interval.

    Returns:
        Lower and upper bounds in 0..1, NaN where total is 0.

    >>> low, high = wilson_interval(9137, 10000)
    >>> round(float(low), 4), round(float(high), 4)
    (0.908, 0.919)
    """
    hits, tries = np.asarray(correct, np.float64), np.asarray(total, np.float64)
    n = np.where(tries > 0, tries, np.nan)
    p = hits / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The ends are known exactly; without this a rounding error leaves 1e-17 in place of 0.
    low = np.where(hits == 0, 0.0 * n, np.maximum(center - half_width, 0.0))
    high = np.where(hits == tries, 1.0 + 0.0 * n, np.minimum(center + half_width, 1.0))
    return low, high


def proportion(correct: int, total: int) -> Proportion:
    """A share of rows with its 95 % interval.

    >>> proportion(0, 0)
    Proportion(fraction=None, low=None, high=None)
    """
    if total == 0:
        return Proportion(None, None, None)
    low, high = wilson_interval(correct, total)
    return Proportion(correct / total, float(low), float(high))


def per_class_accuracy(counts: ArrayLike) -> NDArray[np.float64]:
    """The share of each class's rows that was predicted right: float64 [num_classes], NaN without rows.

    Args:
        counts: integers [num_classes, num_classes], rows true, columns predicted.

    >>> per_class_accuracy([[2, 0], [1, 1]])
    array([1. , 0.5])
    """
    cells = np.asarray(counts)
    support = cells.sum(axis=1)
    shares: NDArray[np.float64] = np.diag(cells) / np.where(support > 0, support, np.nan)
    return shares
