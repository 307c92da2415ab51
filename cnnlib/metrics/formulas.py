"""The formulas of the metrics that are not fractions of rows: sums in, one value per class and one over them all out.

Every function takes arrays whose last axis is the classes; axes before it are resamples. A metric that is not defined
is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Values:
    """Values of some metrics, by their names in the report's tables.

    Attributes:
        overall: float64 [...].
        per_class: float64 [..., num_classes].
    """

    overall: Mapping[str, Floats]
    per_class: Mapping[str, Floats]

    def __or__(self, other: Values) -> Values:
        return Values({**self.overall, **other.overall}, {**self.per_class, **other.per_class})

    def combine(self, other: Values, function: Callable[[Floats, Floats], Floats]) -> Values:
        """Returns a function of each metric here and the metric of the same name in `other`."""
        return Values(
            {name: function(value, other.overall[name]) for name, value in self.overall.items()},
            {name: function(value, other.per_class[name]) for name, value in self.per_class.items()},
        )


def confusion_values(correct: ArrayLike, support: ArrayLike, predicted: ArrayLike) -> Values:
    """Returns F1 of every class, and the means of accuracy, precision and F1 over the classes.

    Means leave out classes that neither occur nor are predicted, as scikit-learn does; the mean of the accuracy leaves
    out classes that do not occur. The precision of a class that is never predicted counts as 0.

    Args:
        correct: [..., num_classes], rows of each class that are predicted right.
        support: [..., num_classes], rows of each class.
        predicted: [..., num_classes], rows that are predicted to be of the class.

    >>> confusion_values([2, 1], [2, 2], [3, 1]).overall["macro_accuracy"]
    array(0.75)
    """
    hits, rows, guesses = (np.asarray(counts, np.float64) for counts in (correct, support, predicted))
    f1, precision = ratio(2 * hits, rows + guesses), np.nan_to_num(ratio(hits, guesses))
    present = (rows + guesses > 0).astype(np.float64)
    return Values(
        {
            "macro_accuracy": weighted_mean(ratio(hits, rows), (rows > 0).astype(np.float64)),
            "macro_precision": weighted_mean(precision, present),
            "macro_f1": weighted_mean(f1, present),
            "weighted_precision": weighted_mean(precision, rows),
            "weighted_f1": weighted_mean(f1, rows),
        },
        {"f1": f1},
    )


def per_class_accuracy(counts: ArrayLike) -> Floats:
    """Returns the fraction of each class's rows that are predicted right: float64 [num_classes], NaN without rows.

    Args:
        counts: integers [num_classes, num_classes], rows true, columns predicted.

    >>> per_class_accuracy([[2, 0], [1, 1]])
    array([1. , 0.5])
    """
    cells = np.asarray(counts, np.float64)
    return ratio(np.diag(cells), cells.sum(axis=1))


def loss_values(loss: Floats, support: Floats) -> Values:
    """Returns the mean loss of each class's rows, and of all rows.

    Args:
        loss: [..., num_classes], sums over the rows of each class.
        support: [..., num_classes], rows of each class.
    """
    overall = ratio(loss.sum(axis=-1), support.sum(axis=-1))
    return Values({"loss": overall}, {"loss": ratio(loss, support)})


def brier_values(brier: Floats, rows: Floats) -> Values:
    """Returns the Brier scores of each class against the rest, and of all classes together.

    Source: G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78
    (1950), 1-3: as defined there for all classes together, 0..2, and half of it for one class, 0..1.

    Args:
        brier: [..., num_classes + 1], sums over all rows; the last one is the sum over the classes.
        rows: [...].
    """
    means = ratio(brier, np.broadcast_to(rows[..., np.newaxis], brier.shape))
    return Values({"brier": means[..., -1]}, {"brier": means[..., :-1]})


def calibration_values(gaps: Floats, rows: Floats) -> Values:
    """Returns expected calibration errors: the mean over the rows of |accuracy - mean probability| of their bin.

    Args:
        gaps: [..., num_classes + 1, bins], hits minus the sum of probabilities; the last entry is of the probability
            of the predicted class.
        rows: [...].
    """
    sums = np.abs(gaps).sum(axis=-1)
    errors = ratio(sums, np.broadcast_to(rows[..., np.newaxis], sums.shape))
    return Values({"ece": errors[..., -1]}, {"ece": errors[..., :-1]})


def ranking_values(auc: Floats, average_precision: Floats, support: Floats) -> Values:
    """Returns AUC and average precision of every class, and their means over the classes that have one."""
    has_auc, has_precision = (np.isfinite(values).astype(np.float64) for values in (auc, average_precision))
    return Values(
        {
            "macro_auc": weighted_mean(auc, has_auc),
            "weighted_auc": weighted_mean(auc, has_auc * support),
            "macro_average_precision": weighted_mean(average_precision, has_precision),
        },
        {"auc": auc, "average_precision": average_precision},
    )


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Returns the quotient, NaN where the denominator is 0."""
    return np.asarray(np.divide(numerator, np.where(denominator > 0, denominator, np.nan)))


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Returns the mean over the last axis of the values with a weight above 0; NaN without one."""
    products = np.where(weights > 0, values, 0.0) * weights
    return ratio(products.sum(axis=-1), weights.sum(axis=-1))
