"""Intervals of figures that are no share of rows: what they would be for other rows of the same kind.

The rows are drawn again, with replacement, and the figure is computed anew; the middle 95 % of what comes out is its
interval (B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13, the percentile interval).
Every draw comes from one seed and the rows in the order of their ids, or from merged counts. So an interval does not
depend on who scored which row.

F1 and the means of precision, recall and F1 are functions of the confusion counts: drawing rows again is drawing
its cells from a multinomial distribution. The others need the rows. Where those are too many, `normal` is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cnnlib.metrics.formulas import (
    Floats,
    Values,
    brier_values,
    calibration_values,
    confusion_values,
    loss_values,
    ranking_values,
)
from cnnlib.metrics.ranking import resample_ranking
from cnnlib.metrics.sums.calibration import NUM_BINS, CalibrationBins, bin_of
from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.metrics.sums.metric_sums import row_losses, row_squares
from cnnlib.metrics.sums.rows import ScoredRows

RESAMPLES = 1000
"""How often rows are drawn again."""
FEWEST_RESAMPLES = 100
"""How often at least where the confusion has so many cells with a row that 1,000 times would take minutes."""
SEED = 1893
"""Seed of all draws."""
BOOTSTRAP_VALUES = 2_000_000
"""Up to so many probabilities, rows times classes, rows are drawn again: seconds."""
_CELL_DRAWS = 20_000_000
_BLOCK_VALUES = 1_000_000  # rows x resamples at a time
_TAIL = 0.025


def resample_confusion(confusion: ConfusionCounts) -> Values:
    """What `confusion_values` gives for rows drawn again: arrays of [resamples] and [resamples, num_classes]."""
    true, predicted = np.nonzero(confusion.counts)
    counts, rows = confusion.counts[true, predicted], confusion.rows
    resamples = max(FEWEST_RESAMPLES, min(RESAMPLES, _CELL_DRAWS // max(1, len(counts))))
    generator, parts = np.random.default_rng(SEED), []
    by_true, by_predicted, by_hit = (
        _indicator(labels, confusion.num_classes, np.flatnonzero(where))
        for labels, where in ((true, true >= 0), (predicted, true >= 0), (true, true == predicted))
    )
    for size in _block_sizes(resamples, len(counts)):
        draws = generator.multinomial(rows, counts / rows, size=size).T.astype(np.float64)
        parts.append(confusion_values((by_hit @ draws).T, (by_true @ draws).T, (by_predicted @ draws).T))
    return _stack(parts)


def resample_rows(rows: ScoredRows) -> Values:
    """Loss, Brier score, calibration error and rankings of rows drawn again, shaped likewise.

    Args:
        rows: sorted by id, at least one.
    """
    labels, shares = rows.labels, rows.probabilities
    num_rows, num_classes = shares.shape
    wide = shares.astype(np.float64)
    loss, squares = row_losses(labels, wide), row_squares(labels, wide)
    by_class = _indicator(labels, num_classes)
    gaps = _calibration_gaps(labels, wide)
    generator, parts = np.random.default_rng(SEED), []
    for size in _block_sizes(RESAMPLES, num_rows):
        weights = _draw(generator, size, num_rows)
        counted = weights.T.astype(np.float64)
        support, drawn = (by_class @ counted).T, np.full(size, float(num_rows))
        gap = (gaps @ counted).T.reshape(size, num_classes + 1, NUM_BINS)
        ranked = [
            resample_ranking(shares[:, index], labels == index, weights) for index in range(num_classes)
        ]
        auc, average_precision = (np.stack(metrics, axis=1) for metrics in zip(*ranked, strict=True))
        parts.append(
            loss_values((by_class @ (counted * loss[:, np.newaxis])).T, support)
            | brier_values((squares.T @ counted).T, drawn)
            | calibration_values(gap, drawn)
            | ranking_values(auc, average_precision, support)
        )
    return _stack(parts)


def resample_bins(bins: CalibrationBins) -> Values:
    """The calibration error where hits are drawn again within each bin, whose rows stay: of any number of rows."""
    generator, rows = np.random.default_rng(SEED), bins.rows[-1].sum()
    shares = np.divide(bins.hits, bins.rows, out=np.zeros(bins.rows.shape), where=bins.rows > 0)
    probability, parts = bins.probability.to_float(), []
    for size in _block_sizes(RESAMPLES, bins.rows.size):
        hits = generator.binomial(bins.rows, shares, size=(size, *bins.rows.shape))
        parts.append(calibration_values(hits - probability, np.full(size, float(rows))))
    return _stack(parts)


def middle(samples: Values) -> tuple[Values, Values]:
    """The ends of the middle 95 % over the first axis, the resamples; NaN where none is defined."""
    ends = [
        Values(
            {name: _quantile(values, fraction) for name, values in samples.overall.items()},
            {name: _quantile(values, fraction) for name, values in samples.per_class.items()},
        )
        for fraction in (_TAIL, 1 - _TAIL)
    ]
    return ends[0], ends[1]


def _draw(generator: np.random.Generator, size: int, num_rows: int) -> NDArray[np.int32]:
    """How often each row is drawn: int32 [size, rows], each line with as many draws as there are rows."""
    draws = [np.bincount(generator.integers(0, num_rows, num_rows), minlength=num_rows) for _ in range(size)]
    return np.stack(draws).astype(np.int32)


def _block_sizes(resamples: int, values: int) -> Iterator[int]:
    """The resamples in blocks, of so few that their arrays stay small; the draws do not depend on the cut."""
    step = max(1, _BLOCK_VALUES // max(1, values))
    for first in range(0, resamples, step):
        yield min(step, resamples - first)


def _indicator(
    labels: NDArray[np.int64], num_classes: int, where: NDArray[np.int64] | None = None
) -> sparse.csr_array:
    """A matrix [num_classes, rows] that adds up rows by their label; all of them, or those of some indexes."""
    index = np.arange(len(labels)) if where is None else where
    shape = (num_classes, len(labels))
    return sparse.csr_array((np.ones(len(index)), (labels[index], index)), shape=shape)


def _calibration_gaps(labels: NDArray[np.int64], shares: Floats) -> sparse.csr_array:
    """A matrix [(num_classes + 1) * bins, rows] of hit minus probability, at the bin of the probability."""
    num_rows, num_classes = shares.shape
    predicted = shares.argmax(axis=1)
    probability = np.column_stack([shares, shares.max(axis=1)])
    hits = np.column_stack([labels[:, np.newaxis] == np.arange(num_classes), predicted == labels])
    line = bin_of(probability) + np.arange(num_classes + 1) * NUM_BINS
    row = np.broadcast_to(np.arange(num_rows)[:, np.newaxis], line.shape)
    shape = ((num_classes + 1) * NUM_BINS, num_rows)
    return sparse.csr_array(((hits - probability).ravel(), (line.ravel(), row.ravel())), shape=shape)


def _stack(parts: list[Values]) -> Values:
    first = parts[0]
    return Values(
        {name: np.concatenate([part.overall[name] for part in parts]) for name in first.overall},
        {name: np.concatenate([part.per_class[name] for part in parts]) for name in first.per_class},
    )


def _quantile(samples: Floats, fraction: float) -> Floats:
    """A quantile of the defined values along the first axis, linear between two of them."""
    rising = np.sort(samples, axis=0)  # NaN last
    last = np.count_nonzero(np.isfinite(rising), axis=0) - 1
    position = fraction * np.maximum(last, 0)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(last, 0))
    low, high = (np.take_along_axis(rising, at[np.newaxis], axis=0)[0] for at in (below, above))
    quantile: Floats = low + (high - low) * (position - below)
    return quantile
