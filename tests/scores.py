"""Builds scored rows from confusion counts, for tests of everything that comes after scoring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows


def make_rows(counts: Sequence[Sequence[int]]) -> ScoredRows:
    """Builds as many rows of every true and predicted class as the counts say, in their order, with ids from 0.

    The probabilities of a row are in proportion to weights: 5 for the predicted class, 2 for the true class if it is
    another, 1 for every other class.
    """
    cells = np.asarray(counts)
    num_classes = len(cells)
    true, predicted = (np.repeat(index.ravel(), cells.ravel()) for index in np.indices(cells.shape))
    weights = np.ones((len(true), num_classes))
    weights[np.arange(len(true)), true] = 2
    weights[np.arange(len(true)), predicted] = 5
    return ScoredRows.from_probabilities(
        np.arange(len(true)), true, weights / weights.sum(axis=1, keepdims=True)
    )


def make_sums(counts: Sequence[Sequence[int]], *, top_k: int = 2) -> MetricSums:
    """Builds the metric sums of the rows of `make_rows`."""
    rows = make_rows(counts)
    return MetricSums.from_probabilities(rows.labels, rows.probabilities, top_k=top_k)
