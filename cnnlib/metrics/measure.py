"""The score of a set of rows in, every figure of a report with its interval out: here, and only here, sums are divided.

Shares of rows (accuracy, precision, top-k) have Wilson's interval. Of the others F1 and the means over classes are
drawn again from the confusion counts; loss, Brier score, calibration error and rankings from the rows where those are
at most 2,000,000 probabilities, else they have a normal interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnlib.metrics.bootstrap import BOOTSTRAP_VALUES, middle, resample_confusion, resample_rows
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
from cnnlib.metrics.normal import normal_interval, ranked
from cnnlib.metrics.ranking import Ranking, rank_bins, rank_rows
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows

_NOTHING = Values({}, {})


@dataclass(frozen=True, kw_only=True, eq=False)
class Metrics:
    """All figures of a set of rows, named as in the report's tables; NaN where one is not defined.

    Attributes:
        values: float64 [] and [num_classes].
        low: the lower ends of their 95 % intervals; figures without an interval are missing.
        high: the upper ends.
        errors: by how much a ranking may be off at most; rankings only.
    """

    values: Values
    low: Values
    high: Values
    errors: Values


def measure(score: MetricSums, rows: ScoredRows | None = None) -> Metrics:
    """The figures of a whole split.

    Args:
        score: the sums over all rows.
        rows: the rows themselves, sorted by id; None where they are too many to keep: then rankings come from the
            histogram, and are left out where the score has none.

    Raises:
        ValueError: the rows are not those of the score.
    """
    if rows is not None and len(rows) != score.rows:
        raise ValueError(f"Expected the {score.rows} rows of the score. Received {len(rows)}.")
    rankings = _rank(score, rows)
    values, errors = _values(score), _NOTHING
    if rankings:
        values |= ranked(score, rankings, "auc", "average_precision")
        errors = ranked(score, rankings, "auc_error", "average_precision_error")
    low, high = _shares_interval(score)
    if score.rows:
        for ends in _estimated(score, rows, values, rankings):
            # Drawing again adds noise, which biases a sum of distances upward: an interval holds its figure.
            low |= ends[0].combine(values, np.fmin)
            high |= ends[1].combine(values, np.fmax)
    return Metrics(values=_shares(score) | values, low=low, high=high, errors=errors)


def measure_slice(score: MetricSums) -> Metrics:
    """The figures of a part of the split: no rankings, and an interval for shares of rows only."""
    low, high = _shares_interval(score)
    return Metrics(values=_shares(score) | _values(score), low=low, high=high, errors=_NOTHING)


def _estimated(
    score: MetricSums, rows: ScoredRows | None, values: Values, rankings: list[Ranking]
) -> list[tuple[Values, Values]]:
    """The intervals of all that is no share of rows, by how they are found."""
    of_confusion = middle(resample_confusion(score.confusion))
    if rows is not None and rows.probabilities.size <= BOOTSTRAP_VALUES:
        return [of_confusion, middle(resample_rows(rows))]
    return [of_confusion, normal_interval(score, values, rankings)]


def _rank(score: MetricSums, rows: ScoredRows | None) -> list[Ranking]:
    classes = range(score.num_classes)
    if rows is not None and len(rows):
        return [rank_rows(rows.probabilities[:, index], rows.labels == index) for index in classes]
    if score.histogram is not None:
        return [rank_bins(score.histogram, index) for index in classes]
    return []


def _values(score: MetricSums) -> Values:
    """All figures but shares of rows and rankings."""
    rows, bins = np.array(float(score.rows)), score.calibration
    return (
        confusion_values(*_counts(score))
        | loss_values(score.loss.to_float(), _support(score))
        | brier_values(score.brier.to_float(), rows)
        | calibration_values(bins.hits - bins.probability.to_float(), rows)
    )


def _shares(score: MetricSums) -> Values:
    return _of_shares(score, ratio)


def _shares_interval(score: MetricSums) -> tuple[Values, Values]:
    return (
        _of_shares(score, lambda hits, tries: wilson_interval(hits, tries)[0]),
        _of_shares(score, lambda hits, tries: wilson_interval(hits, tries)[1]),
    )


def _of_shares(score: MetricSums, function: Callable[[Floats, Floats], Floats]) -> Values:
    """A function of hits and tries of every figure that is a share of rows."""
    correct, support, predicted = _counts(score)
    hits = score.top_k_hits.astype(np.float64)
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


def _counts(score: MetricSums) -> tuple[Floats, Floats, Floats]:
    """Correct, support and predicted of every class."""
    counts = score.confusion.counts.astype(np.float64)
    return np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)


def _support(score: MetricSums) -> Floats:
    return _counts(score)[1]
