"""Confusion counts in, every class's accuracy with its interval, precision and F1 out. NumPy only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib.metrics.confusion import ConfusionCounts

# The 97.5 % quantile of the normal distribution: two-sided 95 %.
_Z_95 = 1.959963984540054


class Proportion(NamedTuple):
    """A share of rows and its 95 % Wilson interval, each in 0..1; all three None where there are no rows."""

    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """The figures of one class.

    Attributes:
        class_index: index of the class, its row and column in the confusion counts.
        support: rows that truly are of this class.
        correct: of those, the rows that were predicted so.
        predicted: rows that were predicted to be of this class, rightly or not.
        accuracy: correct / support (the recall) with its interval; None where support is 0.
        precision: correct / predicted; None where predicted is 0.
        f1: 2 correct / (support + predicted); None where both are 0.
        most_confused_with: index of the class that this one is most often mistaken for, the lowest among
            equals; None without a mistake.
        most_confused_count: how often it is mistaken for that one; 0 without a mistake.
    """

    class_index: int
    support: int
    correct: int
    predicted: int
    accuracy: Proportion
    precision: float | None
    f1: float | None
    most_confused_with: int | None
    most_confused_count: int


def wilson_interval(
    correct: ArrayLike, total: ArrayLike, z: float = _Z_95
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
    Proportion(share=None, low=None, high=None)
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


def per_class_rows(confusion: ConfusionCounts) -> list[ClassScore]:
    """The figures of every class, in the order of their indexes, classes without rows included.

    >>> [row.accuracy.share for row in per_class_rows(ConfusionCounts([[2, 0], [1, 1]]))]
    [1.0, 0.5]
    """
    return [_class_score(confusion.counts, index) for index in range(confusion.num_classes)]


def _class_score(counts: NDArray[np.int64], index: int) -> ClassScore:
    support, predicted = int(counts[index].sum()), int(counts[:, index].sum())
    correct = int(counts[index, index])
    mistakes = counts[index].copy()
    mistakes[index] = 0
    worst = int(mistakes.argmax())
    return ClassScore(
        class_index=index,
        support=support,
        correct=correct,
        predicted=predicted,
        accuracy=proportion(correct, support),
        precision=_ratio(correct, predicted),
        f1=_ratio(2 * correct, support + predicted),
        most_confused_with=worst if mistakes[worst] else None,
        most_confused_count=int(mistakes[worst]),
    )


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None
