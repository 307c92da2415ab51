"""Computes bootstrap intervals of the metrics that are not fractions of rows.

The rows are resampled with replacement and the metric is computed from each resample; the middle 95 % of the results
is its interval (B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13, the percentile
interval). All random numbers come from one seed, and the rows are in the order of their ids or are merged counts. So
an interval does not depend on which predictor scored which row.

F1 and the means of precision, recall and F1 are functions of the confusion counts: resampling rows is drawing its cells
from a multinomial distribution. The other metrics need the rows. For more than `BOOTSTRAP_VALUES` probabilities,
`normal` computes their intervals; it resamples only the calibration error, with `resample_bins`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cnnlib.cores import num_cores
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
from cnnlib.storage.threads import map_threads

RESAMPLES = 1000
"""Number of resamples."""
MIN_RESAMPLES = 100
"""The fewest resamples. If very many cells of the confusion matrix have rows, 1,000 resamples would take minutes."""
SEED = 1893
"""Seed of all random numbers."""
BOOTSTRAP_VALUES = 2_000_000
"""The most probabilities, rows times classes, for which rows are resampled, which takes seconds."""
_CELL_DRAWS = 20_000_000  # cells x resamples, unless MIN_RESAMPLES needs more
_BLOCK_VALUES = 1_000_000  # rows, or classes, x resamples in memory at a time
_TAILS = (0.025, 0.975)


def resample_confusion(confusion: ConfusionCounts) -> Values:
    """Returns `confusion_values` of resampled rows: arrays [resamples] and [resamples, num_classes]."""
    true, predicted = confusion.true, confusion.predicted
    counts, rows = confusion.counts, confusion.rows
    resamples = max(MIN_RESAMPLES, min(RESAMPLES, _CELL_DRAWS // max(1, len(counts))))
    generator, blocks = np.random.default_rng(SEED), []
    sum_by_true, sum_by_predicted, sum_correct = (
        _indicator(labels, confusion.num_classes, np.flatnonzero(where))
        for labels, where in ((true, true >= 0), (predicted, true >= 0), (true, true == predicted))
    )
    for size in _block_sizes(resamples, max(len(counts), confusion.num_classes)):
        cells = generator.multinomial(rows, counts / rows, size=size).T.astype(np.float64)
        blocks.append(
            confusion_values((sum_correct @ cells).T, (sum_by_true @ cells).T, (sum_by_predicted @ cells).T)
        )
    return _concatenate(blocks)


def resample_rows(rows: ScoredRows) -> Values:
    """Returns loss, Brier score, calibration error and ranking metrics of resampled rows.

    Args:
        rows: sorted by id, at least one.

    Returns:
        Arrays [resamples] and [resamples, num_classes].
    """
    labels, probabilities = rows.labels, rows.probabilities
    num_rows, num_classes = probabilities.shape
    probabilities_f64 = probabilities.astype(np.float64)
    losses = row_losses(labels, probabilities_f64)
    squares_by_class = np.ascontiguousarray(row_squares(labels, probabilities_f64).T)
    sum_by_class = _indicator(labels, num_classes)
    sum_gaps = _calibration_gaps(labels, probabilities_f64)
    generator, blocks = np.random.default_rng(SEED), []
    for size in _block_sizes(RESAMPLES, max(num_rows, num_classes)):
        weights = _draw_weights(generator, size, num_rows)
        by_resample = weights.astype(np.float64)
        weights_f64 = by_resample.T
        support, total = (sum_by_class @ weights_f64).T, np.full(size, float(num_rows))
        gaps = (sum_gaps @ weights_f64).T.reshape(size, num_classes + 1, NUM_BINS)
        rank = partial(_rank_class, rows, weights)
        rankings = map_threads(rank, range(num_classes), threads=num_cores())
        auc, average_precision = (np.stack(metrics, axis=1) for metrics in zip(*rankings, strict=True))
        blocks.append(
            loss_values((sum_by_class @ (weights_f64 * losses[:, np.newaxis])).T, support)
            # No matrix product: that of NumPy's library sums in another order with other threads, which wait for each
            # other for seconds where the cores are busy.
            | brier_values(np.einsum("sr,cr->sc", by_resample, squares_by_class), total)
            | calibration_values(gaps, total)
            | ranking_values(auc, average_precision, support)
        )
    return _concatenate(blocks)


def _rank_class(rows: ScoredRows, weights: NDArray[np.int32], index: int) -> tuple[Floats, Floats]:
    return resample_ranking(rows.probabilities[:, index], rows.labels == index, weights)


def resample_bins(bins: CalibrationBins) -> Values:
    """Returns the calibration error of resampled hits. Every bin keeps its rows, so there may be any number of them.

    A bin without hits has none in any resample, and costs no draw: of many classes, most bins are such.
    """
    generator, rows = np.random.default_rng(SEED), bins.rows[-1].sum()
    hit_rates = np.divide(bins.hits, bins.rows, out=np.zeros(bins.rows.shape), where=bins.rows > 0)
    probability_sums, blocks = bins.probability.to_float(), []
    with_hits = bins.hits > 0
    for size in _block_sizes(RESAMPLES, bins.rows.size):
        hits = np.zeros((size, *bins.rows.shape), np.int64)
        hits[:, with_hits] = generator.binomial(
            bins.rows[with_hits], hit_rates[with_hits], size=(size, np.count_nonzero(with_hits))
        )
        blocks.append(calibration_values(hits - probability_sums, np.full(size, float(rows))))
    return _concatenate(blocks)


def percentile_interval(samples: Values) -> tuple[Values, Values]:
    """Returns the ends of the middle 95 % over the first axis, the resamples; NaN where no sample is defined."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        overall, per_class = (
            {name: np.nanquantile(values, _TAILS, axis=0) for name, values in scope.items()}
            for scope in (samples.overall, samples.per_class)
        )
    low, high = (
        Values(
            {name: ends[side] for name, ends in overall.items()},
            {name: ends[side] for name, ends in per_class.items()},
        )
        for side in (0, 1)
    )
    return low, high


def _draw_weights(generator: np.random.Generator, size: int, num_rows: int) -> NDArray[np.int32]:
    """Returns how often each resample holds each row: int32 [size, rows], which sums to `num_rows` per resample."""
    weights = [
        np.bincount(generator.integers(0, num_rows, num_rows), minlength=num_rows) for _ in range(size)
    ]
    return np.stack(weights).astype(np.int32)


def _block_sizes(resamples: int, values: int) -> Iterator[int]:
    """Yields the sizes of blocks of resamples whose arrays stay small; the random numbers do not depend on them."""
    step = max(1, _BLOCK_VALUES // max(1, values))
    for first in range(0, resamples, step):
        yield min(step, resamples - first)


def _indicator(
    labels: NDArray[np.int64], num_classes: int, where: NDArray[np.int64] | None = None
) -> sparse.csr_array:
    """Returns the matrix [num_classes, rows] that sums rows by their label.

    Args:
        labels: int64 [rows].
        where: indexes of the rows to sum; None: all.
    """
    index = np.arange(len(labels)) if where is None else where
    shape = (num_classes, len(labels))
    return sparse.csr_array((np.ones(len(index)), (labels[index], index)), shape=shape)


def _calibration_gaps(labels: NDArray[np.int64], probabilities: Floats) -> sparse.csr_array:
    """Returns the matrix [(num_classes + 1) * bins, rows] of hit minus probability, in the bin of the probability."""
    num_rows, num_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    by_class_and_top = np.column_stack([probabilities, probabilities.max(axis=1)])
    hits = np.column_stack([labels[:, np.newaxis] == np.arange(num_classes), predicted == labels])
    cell = bin_of(by_class_and_top) + np.arange(num_classes + 1) * NUM_BINS
    row = np.broadcast_to(np.arange(num_rows)[:, np.newaxis], cell.shape)
    shape = ((num_classes + 1) * NUM_BINS, num_rows)
    return sparse.csr_array(((hits - by_class_and_top).ravel(), (cell.ravel(), row.ravel())), shape=shape)


def _concatenate(blocks: list[Values]) -> Values:
    first = blocks[0]
    return Values(
        {name: np.concatenate([block.overall[name] for block in blocks]) for name in first.overall},
        {name: np.concatenate([block.per_class[name] for block in blocks]) for name in first.per_class},
    )
