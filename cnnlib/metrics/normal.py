"""Intervals of figures of more rows than can be drawn again: the figure and 1.96 standard errors to either side.

The standard errors come from sums of squares and, for rankings, from the counts of their groups, so that they need
no rows (see `ranking`). That of a mean over classes is at most the mean of theirs, and taken to be as much: the
interval is the wider one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnlib.metrics.bootstrap import middle, resample_bins
from cnnlib.metrics.formulas import Floats, Values, brier_values, loss_values, ranking_values, ratio
from cnnlib.metrics.intervals import Z_95
from cnnlib.metrics.ranking import Ranking
from cnnlib.metrics.sums.metric_sums import MetricSums


def normal_interval(score: MetricSums, values: Values, rankings: Sequence[Ranking]) -> tuple[Values, Values]:
    """The ends of the intervals of loss, Brier score, calibration error and rankings.

    Args:
        values: the figures themselves.
        rankings: of every class; none where nobody asks for them.
    """
    deviations = _deviations(score)
    errors = Values({}, {})
    if rankings:
        deviations |= ranked(score, rankings, "auc_deviation", "average_precision_deviation")
        errors = ranked(score, rankings, "auc_error", "average_precision_error")
    half_width = Values(
        {name: Z_95 * value + errors.overall.get(name, 0.0) for name, value in deviations.overall.items()},
        {
            name: Z_95 * value + errors.per_class.get(name, 0.0)
            for name, value in deviations.per_class.items()
        },
    )
    low, high = middle(resample_bins(score.calibration))
    return (
        low | half_width.combine(values, lambda half, value: np.maximum(value - half, 0.0)),
        high | _clip_shares(half_width.combine(values, lambda half, value: value + half)),
    )


def ranked(score: MetricSums, rankings: Sequence[Ranking], auc: str, average_precision: str) -> Values:
    """Two fields of the rankings of all classes, as figures of each class and of all.

    Args:
        rankings: of every class.
        auc: the field about the AUC: itself, its deviation or its error.
        average_precision: the field that says the same of the average precision.
    """
    support = score.confusion.counts.sum(axis=1).astype(np.float64)
    of_auc, of_precision = (
        np.array([getattr(ranking, name) for ranking in rankings]) for name in (auc, average_precision)
    )
    return ranking_values(of_auc, of_precision, support)


def _deviations(score: MetricSums) -> Values:
    support = score.confusion.counts.sum(axis=1).astype(np.float64)
    rows = np.array(float(score.rows))
    loss, loss_squares = score.loss.to_float(), score.loss_squares.to_float()
    means = loss_values(loss, support) | brier_values(score.brier.to_float(), rows)
    squares = loss_values(loss_squares, support) | brier_values(score.brier_squares.to_float(), rows)
    spread = squares.combine(means, lambda square, mean: np.sqrt(np.maximum(square - mean**2, 0.0)))
    return Values(
        {name: ratio(value, np.sqrt(rows)) for name, value in spread.overall.items()},
        {
            "loss": ratio(spread.per_class["loss"], np.sqrt(support)),
            "brier": ratio(spread.per_class["brier"], np.sqrt(np.broadcast_to(rows, support.shape))),
        },
    )


def _clip_shares(ends: Values) -> Values:
    """Rankings end at 1, as does one class's Brier score; all classes' ends at 2, and a loss nowhere."""

    def clip(name: str, value: Floats, largest_brier: float) -> Floats:
        largest = np.inf if name == "loss" else largest_brier if name == "brier" else 1.0
        return np.minimum(value, largest)

    return Values(
        {name: clip(name, value, 2.0) for name, value in ends.overall.items()},
        {name: clip(name, value, 1.0) for name, value in ends.per_class.items()},
    )
