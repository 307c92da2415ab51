"""Labels and probabilities of rows in; counts and sums out, from which all metrics are computed. NumPy only, no I/O.

The size of the sums does not depend on the number of rows. They are whole numbers and merge exactly, in any grouping
and any order: it does not matter how many predictors scored which rows. Nothing here is a mean: `measure` divides,
once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib.metrics.sums.arrays import as_scored
from cnnlib.metrics.sums.calibration import CalibrationBins
from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.metrics.sums.exact import MAX_BLOCK_ROWS, ExactSums, in_units
from cnnlib.metrics.sums.histogram import ProbabilityHistogram

# Keras's cross-entropy clips probabilities here, too: so this loss agrees with that of `model.evaluate`.
SMALLEST_PROBABILITY = 1e-7
_BLOCK_VALUES = 2**18  # 2 MB of float64, which stay in the cache
# Sums of blocks are Python integers, 15 per class in the calibration bins, so with many classes more rows are summed
# before. Of 20,000 classes they are 20 MB.
_MIN_BLOCK_ROWS = 128


@dataclass(frozen=True, kw_only=True)
class MetricSums:
    """All counts and sums of a set of rows.

    Attributes:
        confusion: the counts of true and predicted labels.
        top_k: k, at least 1; only sums of the same k merge.
        top_k_hits: int64 [num_classes], rows of each true class that have it among their k most probable classes.
        loss: [num_classes], sums over the rows of each true class of -log p(true class), in nats.
        loss_squares: [num_classes], sums of the squares of these losses.
        brier: [num_classes + 1], sums over all rows of (p - y)^2, where y is 1 for the true class, else 0; the
            last one sums over the classes as well.
        brier_squares: [num_classes + 1], sums over all rows of the squares of these values.
        calibration: rows and hits in 15 bins of probability.
        histogram: rows in many bins of probability; None without ranking metrics, or where they come from the rows.
    """

    confusion: ConfusionCounts
    top_k: int
    top_k_hits: NDArray[np.int64]
    loss: ExactSums
    loss_squares: ExactSums
    brier: ExactSums
    brier_squares: ExactSums
    calibration: CalibrationBins
    histogram: ProbabilityHistogram | None = None

    @classmethod
    def from_probabilities(
        cls, labels: ArrayLike, probabilities: ArrayLike, *, top_k: int, histogram: bool = False
    ) -> MetricSums:
        """Computes the sums of some rows.

        The predicted class is the most probable one. Among equals the lowest index comes first, also in the top k, so
        top 1 is the accuracy. A probability below 1e-7 counts as 1e-7 in the loss, as in Keras.

        Args:
            labels: integers [rows] in 0..num_classes-1, the true classes.
            probabilities: float32 [rows, num_classes] in 0..1.
            top_k: the number of most probable classes that may include the true one, at least 1.
            histogram: whether to fill the histogram.

        Raises:
            ValueError: a label out of range, shapes that do not match, or a probability outside 0..1 or NaN.

        >>> MetricSums.from_probabilities([1], [[0.5, 0.25, 0.25]], top_k=2).top_k_hits.tolist()
        [0, 1, 0]
        """
        true, checked = as_scored(labels, probabilities)
        num_classes = checked.shape[1]
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1. Received {top_k}.")
        step = min(MAX_BLOCK_ROWS, max(_MIN_BLOCK_ROWS, _BLOCK_VALUES // num_classes))
        blocks = [
            _sum_block(true[first : first + step], checked[first : first + step], top_k)
            for first in range(0, max(1, len(true)), step)
        ]
        return cls(
            confusion=ConfusionCounts.from_labels(true, checked.argmax(axis=1), num_classes),
            top_k=top_k,
            histogram=ProbabilityHistogram.from_rows(true, checked) if histogram else None,
            **{name: reduce(add, (block[name] for block in blocks)) for name in blocks[0]},
        )

    @classmethod
    def merge_all(cls, parts: Iterable[MetricSums]) -> MetricSums:
        """Returns the sums over all parts, taken one at a time; their order and grouping do not change a bit.

        Raises:
            ValueError: no part, or parts that `merge` refuses.
        """
        remaining = iter(parts)
        first = next(remaining, None)
        if first is None:
            raise ValueError(
                "Nothing to merge. Expected at least one MetricSums; for no rows use MetricSums.zero."
            )
        return reduce(cls.merge, remaining, first)

    @classmethod
    def zero(cls, num_classes: int, *, top_k: int, histogram: bool = False) -> MetricSums:
        """Returns the sums of no rows: merging them changes nothing."""
        return cls(
            confusion=ConfusionCounts.zero(num_classes),
            top_k=top_k,
            top_k_hits=np.zeros(num_classes, np.int64),
            loss=ExactSums.zero(num_classes),
            loss_squares=ExactSums.zero(num_classes),
            brier=ExactSums.zero(num_classes + 1),
            brier_squares=ExactSums.zero(num_classes + 1),
            calibration=CalibrationBins.zero(num_classes),
            histogram=ProbabilityHistogram.zero(num_classes) if histogram else None,
        )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.confusion.rows

    @property
    def num_classes(self) -> int:
        """Number of classes, with or without rows."""
        return self.confusion.num_classes

    @property
    def top_k_correct(self) -> int:
        """Number of rows whose true class is among the k most probable."""
        return int(self.top_k_hits.sum())

    @property
    def loss_sum(self) -> float:
        """Sum over all rows of -log p(true class), in nats."""
        return float(self.loss.to_float().sum())

    def merge(self, other: MetricSums) -> MetricSums:
        """Returns the sums over both sets of rows, exactly.

        Raises:
            ValueError: different k, different numbers of classes, or a histogram in only one of them.
        """
        if (self.top_k, self.num_classes) != (other.top_k, other.num_classes):
            raise ValueError(
                "Cannot merge sums of different k or different numbers of classes. Received "
                f"k={self.top_k} of {self.num_classes} classes and k={other.top_k} of {other.num_classes}."
            )
        if (self.histogram is None) != (other.histogram is None):
            raise ValueError("Cannot merge sums with a histogram and sums without.")
        return MetricSums(
            confusion=self.confusion.merge(other.confusion),
            top_k=self.top_k,
            top_k_hits=self.top_k_hits + other.top_k_hits,
            loss=self.loss + other.loss,
            loss_squares=self.loss_squares + other.loss_squares,
            brier=self.brier + other.brier,
            brier_squares=self.brier_squares + other.brier_squares,
            calibration=self.calibration + other.calibration,
            histogram=None
            if self.histogram is None or other.histogram is None
            else self.histogram + other.histogram,
        )

    def __eq__(self, other: object) -> bool:
        # Not the generated method: == of two arrays is an array.
        return isinstance(other, MetricSums) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name))
            if field.name == "top_k_hits"
            else getattr(self, field.name) == getattr(other, field.name)
            for field in fields(self)
        )

    def __hash__(self) -> int:
        return hash((self.confusion, self.top_k))


def row_losses(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns -log p(true class) of every row, in nats: float64 [rows] from [rows, num_classes]."""
    true_probabilities = probabilities[np.arange(len(labels)), labels]
    losses: NDArray[np.float64] = -np.log(np.maximum(true_probabilities, SMALLEST_PROBABILITY))
    return losses


def row_squares(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (p - y)^2 of every row and class: float64 [rows, num_classes + 1], the last one the sum over classes."""
    distance = probabilities.copy()
    distance[np.arange(len(labels)), labels] -= 1
    squares = np.square(distance, out=distance)
    return np.column_stack([squares, squares.sum(axis=1)])


def _sum_block(labels: NDArray[np.int64], probabilities: NDArray[np.float32], top_k: int) -> dict[str, Any]:
    """Returns the sums over at most 4096 rows, by the name of their field."""
    num_classes = probabilities.shape[1]
    probabilities_f64 = probabilities.astype(np.float64)
    loss, brier = row_losses(labels, probabilities_f64), row_squares(labels, probabilities_f64)
    return {
        "top_k_hits": np.bincount(labels[_ranks(probabilities, labels) < top_k], minlength=num_classes),
        "loss": _sum_by_class(labels, loss, num_classes),
        "loss_squares": _sum_by_class(labels, loss**2, num_classes),
        "brier": ExactSums.from_units(in_units(brier).sum(axis=0)),
        "brier_squares": ExactSums.from_units(in_units(brier**2).sum(axis=0)),
        "calibration": CalibrationBins.from_block(labels, probabilities_f64),
    }


def _sum_by_class(labels: NDArray[np.int64], values: NDArray[np.float64], num_classes: int) -> ExactSums:
    return ExactSums.from_units(np.bincount(labels, in_units(values), num_classes))


def _ranks(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the number of classes before the true one: more probable ones, and equal ones of a lower index."""
    true_probabilities = probabilities[np.arange(len(labels)), labels][:, np.newaxis]
    more_probable = np.count_nonzero(probabilities > true_probabilities, axis=1)
    ties = (probabilities == true_probabilities) & (np.arange(probabilities.shape[1]) < labels[:, np.newaxis])
    ranks: NDArray[np.int64] = more_probable + np.count_nonzero(ties, axis=1)
    return ranks
