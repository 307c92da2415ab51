"""The sums of a set of rows in, every metric of a report with its interval out: the only place that divides sums.

Fractions of rows (accuracy, precision, top-k accuracy) have Wilson intervals. F1 and the means of accuracy, precision
and F1 over the classes have bootstrap intervals from the confusion counts. Loss, Brier score, calibration error and
ranking metrics have bootstrap intervals from the rows. For more than 2,000,000 probabilities (rows times classes), the
calibration error has a bootstrap interval from its bins, and the others have normal intervals. What a single row
decides, such as the loss of a class with one row, has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnlib.metrics.bootstrap import BOOTSTRAP_VALUES, percentile_interval, resample_confusion, resample_rows
from cnnlib.metrics.formulas import (
    Floats,
    Values,
    brier_values,
    calibration_values,
    confusion_values,
    loss_values,
    ratio,
)
from cnnlib.metrics.intervals import wilson_interval
from cnnlib.metrics.normal import normal_interval, ranking_fields
from cnnlib.metrics.ranking import Ranking, rank_bins, rank_rows
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows

_NO_VALUES = Values({}, {})


@dataclass(frozen=True, kw_only=True, eq=False)
class Metrics:
    """All metrics of a set of rows, by their names in the report's tables; NaN where a metric is not defined.

    Attributes:
        values: float64 [] and [num_classes].
        low: lower ends of their 95 % intervals; metrics without an interval are missing.
        high: upper ends.
        errors: bounds on the error of AUC and average precision; other metrics are missing.
    """

    values: Values
    low: Values
    high: Values
    errors: Values


def measure(sums: MetricSums, rows: ScoredRows | None = None) -> Metrics:
    """Returns the metrics of a whole split.

    Args:
        sums: the sums over all rows.
        rows: the rows themselves, sorted by id; None where there are too many to keep: then AUC and average precision
            come from the histogram, and are missing where the sums have none.

    Raises:
        ValueError: the number of rows is not that of the sums.
    """
    if rows is not None and len(rows) != sums.rows:
        raise ValueError(f"Expected the {sums.rows} rows of the sums. Received {len(rows)}.")
    rankings = _rank(sums, rows)
    values, errors = _other_values(sums), _NO_VALUES
    if rankings:
        values |= ranking_fields(sums, rankings, "auc", "average_precision")
        errors = ranking_fields(sums, rankings, "auc_error", "average_precision_error")
    low, high = _fraction_intervals(sums)
    if sums.rows:
        for interval_low, interval_high in _other_intervals(sums, rows, values, rankings):
            # Resampling adds noise, which biases a sum of distances upward: widened, the interval holds the metric.
            low |= interval_low.combine(values, np.fmin)
            high |= interval_high.combine(values, np.fmax)
    low, high = (_without_single_rows(sums, ends) for ends in (low, high))
    return Metrics(values=_fractions(sums) | values, low=low, high=high, errors=errors)


def measure_slice(sums: MetricSums) -> Metrics:
    """Returns the metrics of a slice: without ranking metrics, and with intervals for fractions of rows only."""
    low, high = _fraction_intervals(sums)
    return Metrics(values=_fractions(sums) | _other_values(sums), low=low, high=high, errors=_NO_VALUES)


def _without_single_rows(sums: MetricSums, ends: Values) -> Values:
    """Returns the ends of intervals, NaN where a single row says nothing about the spread of a mean over rows.

    Resampled, it is always itself, and its standard deviation is 0: the interval would have no width.
    """
    _, support, _ = _counts(sums)
    others = support.sum() - support
    single = support < 2
    too_few = {
        "loss": single,
        "brier": np.full_like(single, sums.rows < 2),
        "average_precision": single,
        "auc": single | (others < 2),
    }
    return Values(
        {
            name: np.where(name in ("loss", "brier") and sums.rows < 2, np.nan, value)
            for name, value in ends.overall.items()
        },
        {name: np.where(too_few.get(name, False), np.nan, values) for name, values in ends.per_class.items()},
    )


def _rank(sums: MetricSums, rows: ScoredRows | None) -> list[Ranking]:
    """Returns the ranking of every class, from the rows or else from the histogram; empty without either."""
    classes = range(sums.num_classes)
    if rows is not None and len(rows):
        return [rank_rows(rows.probabilities[:, index], rows.labels == index) for index in classes]
    if sums.histogram is not None:
        return [rank_bins(sums.histogram, index) for index in classes]
    return []


def _fractions(sums: MetricSums) -> Values:
    return _map_fractions(sums, ratio)


def _fraction_intervals(sums: MetricSums) -> tuple[Values, Values]:
    return (
        _map_fractions(sums, lambda hits, total: wilson_interval(hits, total)[0]),
        _map_fractions(sums, lambda hits, total: wilson_interval(hits, total)[1]),
    )


def _map_fractions(sums: MetricSums, function: Callable[[Floats, Floats], Floats]) -> Values:
    """Returns `function(numerator, denominator)` of every metric that is a fraction of rows."""
    correct, support, predicted = _counts(sums)
    hits = sums.top_k_hits.astype(np.float64)
    return Values(
        {
            "accuracy": function(correct.sum(), support.sum()),
            "top_k_accuracy": function(hits.sum(), support.sum()),
        },
        {
            "accuracy": function(correct, support),
            "precision": function(correct, predicted),
            "top_k_accuracy": function(hits, support),
        },
    )


def _other_values(sums: MetricSums) -> Values:
    """Returns all metrics except fractions of rows and ranking metrics."""
    rows, bins = np.array(float(sums.rows)), sums.calibration
    correct, support, predicted = _counts(sums)
    return (
        confusion_values(correct, support, predicted)
        | loss_values(sums.loss.to_float(), support)
        | brier_values(sums.brier.to_float(), rows)
        | calibration_values(bins.hits - bins.probability.to_float(), rows)
    )


def _other_intervals(
    sums: MetricSums, rows: ScoredRows | None, values: Values, rankings: list[Ranking]
) -> list[tuple[Values, Values]]:
    """Returns the intervals of all metrics that are not fractions of rows, one pair of ends per method."""
    from_confusion = percentile_interval(resample_confusion(sums.confusion))
    if rows is not None and rows.probabilities.size <= BOOTSTRAP_VALUES:
        return [from_confusion, percentile_interval(resample_rows(rows))]
    return [from_confusion, normal_interval(sums, values, rankings)]


def _counts(sums: MetricSums) -> tuple[Floats, Floats, Floats]:
    """Returns the correct, true and predicted rows of every class."""
    counts = sums.confusion
    correct, support, predicted = (
        values.astype(np.float64)
        for values in (counts.correct_by_class, counts.rows_by_true, counts.rows_by_predicted)
    )
    return correct, support, predicted
