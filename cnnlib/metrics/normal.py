"""Computes normal intervals for more rows than can be resampled: the metric and 1.96 standard errors to either side.

The standard errors come from sums of squares and, for ranking metrics, from the counts of their groups, so they need
no rows (see `ranking`). The standard error of a mean over classes is at most the mean of the classes' standard errors;
that mean is used, so the interval may be too wide, but not too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnlib.metrics.bootstrap import percentile_interval, resample_bins
from cnnlib.metrics.formulas import Floats, Values, brier_values, loss_values, ranking_values, ratio
from cnnlib.metrics.intervals import Z_95
from cnnlib.metrics.ranking import Ranking
from cnnlib.metrics.sums.metric_sums import MetricSums


def normal_interval(sums: MetricSums, values: Values, rankings: Sequence[Ranking]) -> tuple[Values, Values]:
    """Returns the ends of the intervals of loss, Brier score, calibration error and ranking metrics.

    Args:
        sums: the sums over all rows.
        values: the metrics themselves.
        rankings: one per class; empty where the sums have no histogram.
    """
    standard_errors, bounds = _standard_errors(sums), Values({}, {})
    if rankings:
        standard_errors |= ranking_fields(
            sums, rankings, "auc_standard_error", "average_precision_standard_error"
        )
        bounds = ranking_fields(sums, rankings, "auc_error", "average_precision_error")
    half_width = Values(
        {
            name: Z_95 * value + bounds.overall.get(name, 0.0)
            for name, value in standard_errors.overall.items()
        },
        {
            name: Z_95 * value + bounds.per_class.get(name, 0.0)
            for name, value in standard_errors.per_class.items()
        },
    )
    # The calibration error is a sum of absolute values, which is not normal; its bins can be resampled.
    low, high = percentile_interval(resample_bins(sums.calibration))
    return (
        low | half_width.combine(values, lambda half, value: np.maximum(value - half, 0.0)),
        high | _clip_to_largest(half_width.combine(values, lambda half, value: value + half)),
    )


def ranking_fields(sums: MetricSums, rankings: Sequence[Ranking], auc: str, average_precision: str) -> Values:
    """Returns two fields of the rankings of all classes as metrics, per class and over the classes.

    Args:
        sums: the sums over all rows.
        rankings: one per class.
        auc: the field of the AUC: the value, its standard error or its error.
        average_precision: the same field of the average precision.
    """
    support = sums.confusion.rows_by_true.astype(np.float64)
    auc_values, average_precision_values = (
        np.array([getattr(ranking, name) for ranking in rankings]) for name in (auc, average_precision)
    )
    return ranking_values(auc_values, average_precision_values, support)


def _standard_errors(sums: MetricSums) -> Values:
    """Returns the standard errors of loss and Brier score: standard deviation over the square root of the rows."""
    support = sums.confusion.rows_by_true.astype(np.float64)
    rows = np.array(float(sums.rows))
    means = loss_values(sums.loss.to_float(), support) | brier_values(sums.brier.to_float(), rows)
    squares = loss_values(sums.loss_squares.to_float(), support) | brier_values(
        sums.brier_squares.to_float(), rows
    )
    deviations = squares.combine(means, lambda square, mean: np.sqrt(np.maximum(square - mean**2, 0.0)))
    return Values(
        {name: ratio(value, np.sqrt(rows)) for name, value in deviations.overall.items()},
        {
            "loss": ratio(deviations.per_class["loss"], np.sqrt(support)),
            "brier": ratio(deviations.per_class["brier"], np.sqrt(np.broadcast_to(rows, support.shape))),
        },
    )


def _clip_to_largest(ends: Values) -> Values:
    """Clips to the largest value of each metric: 1, but 2 for the Brier score of all classes, and none for the loss."""

    def clip(name: str, value: Floats, largest_brier: float) -> Floats:
        largest = np.inf if name == "loss" else largest_brier if name == "brier" else 1.0
        return np.minimum(value, largest)

    return Values(
        {name: clip(name, value, 2.0) for name, value in ends.overall.items()},
        {name: clip(name, value, 1.0) for name, value in ends.per_class.items()},
    )
