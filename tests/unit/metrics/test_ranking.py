"""AUC and average precision equal those of scikit-learn for sorted rows, and lie within their bound for binned rows."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from cnnlib.metrics import ranking
from cnnlib.metrics.ranking import rank_bins, rank_rows, resample_ranking
from cnnlib.metrics.sums.histogram import NUM_BINS, ProbabilityHistogram
from cnnlib.metrics.sums.rows import ScoredRows
from tests.unit.metrics.strategies import scored_rows

TOLERANCE = 1e-9


def scikit_learn(
    probabilities: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, float]:
    """Returns AUC and average precision by scikit-learn, NaN where they are not defined."""
    weights = np.ones(len(probabilities)) if weight is None else weight
    if not weights[positive].any():
        return math.nan, math.nan
    precision = average_precision_score(positive, probabilities, sample_weight=weight)
    if not weights[~positive].any():
        return math.nan, precision
    return roc_auc_score(positive, probabilities, sample_weight=weight), precision


def same(actual: float, expected: float) -> bool:
    return abs(actual - expected) <= TOLERANCE or (math.isnan(actual) and math.isnan(expected))


@given(scored_rows())
def test_sorted_rows_give_what_scikit_learn_gives(rows: ScoredRows) -> None:
    for index in range(rows.probabilities.shape[1]):
        probabilities, positive = rows.probabilities[:, index], rows.labels == index
        ranked, expected = rank_rows(probabilities, positive), scikit_learn(probabilities, positive)
        assert same(ranked.auc, expected[0])
        assert same(ranked.average_precision, expected[1])
        assert all(math.isnan(error) or error == 0 for error in ranked[4:])


@given(scored_rows(min_rows=2, max_rows=120))
def test_binned_rows_lie_within_the_bound_they_state(rows: ScoredRows) -> None:
    histogram = ProbabilityHistogram.from_rows(rows.labels, rows.probabilities)
    for index in range(rows.probabilities.shape[1]):
        exact = rank_rows(rows.probabilities[:, index], rows.labels == index)
        binned = rank_bins(histogram, index)
        for metric in ("auc", "average_precision"):
            value, error = getattr(binned, metric), getattr(binned, f"{metric}_error")
            expected = getattr(exact, metric)
            assert math.isnan(value) == math.isnan(expected) == math.isnan(error)
            assert math.isnan(expected) or abs(value - expected) <= error + TOLERANCE


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_no_order_within_the_bins_leaves_the_bound(bins: list[tuple[int, int]], random: object) -> None:
    """Positives and negatives of every bin get any order, with ties: the histogram cannot know it."""
    positives, negatives = np.zeros((2, 1, NUM_BINS), np.int64)
    outputs: list[float] = []
    truth: list[bool] = []
    for place, (p, n) in enumerate(bins):
        positives[0, place], negatives[0, place] = p, n
        for is_positive in [True] * p + [False] * n:
            outputs.append(place + random.choice([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))  # type: ignore[attr-defined]
            truth.append(is_positive)
    binned = rank_bins(ProbabilityHistogram(positives=positives, negatives=negatives), 0)
    auc, precision = (
        scikit_learn(np.array(outputs), np.array(truth, bool)) if outputs else (math.nan, math.nan)
    )
    assert math.isnan(auc) or abs(binned.auc - auc) <= binned.auc_error + TOLERANCE
    assert math.isnan(precision) or (
        abs(binned.average_precision - precision) <= binned.average_precision_error + TOLERANCE
    )


def test_bound_is_small_for_probabilities_of_a_typical_model() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    logit = rng.normal(size=20_000) * 4 + np.where(labels == 1, 4, -4)
    probability = 1 / (1 + np.exp(-logit))
    probabilities = np.column_stack([1 - probability, probability]).astype(np.float32)
    binned = rank_bins(ProbabilityHistogram.from_rows(labels, probabilities), 1)
    assert 0 < binned.auc_error < 1e-3
    assert 0 < binned.average_precision_error < 2e-3


@given(scored_rows(), st.integers(0, 2**31))
def test_resampled_rankings_are_those_of_scikit_learn_with_weights(rows: ScoredRows, seed: int) -> None:
    weights = np.random.default_rng(seed).poisson(1, (3, len(rows))).astype(np.int32)
    probabilities, positive = rows.probabilities[:, 0], rows.labels == 0
    auc, precision = resample_ranking(probabilities, positive, weights)
    for line, weight in enumerate(weights):
        expected = scikit_learn(probabilities, positive, weight) if weight.any() else (math.nan, math.nan)
        assert same(auc[line], expected[0])
        assert same(precision[line], expected[1])


def test_standard_errors_are_those_of_resampled_rows() -> None:
    rng = np.random.default_rng(1)
    num_rows = 2000
    positive = rng.random(num_rows) < 0.2
    outputs = np.round(rng.normal(size=num_rows) + positive * 1.5, 2).astype(np.float32)
    ranked = rank_rows(outputs, positive)
    weights = rng.multinomial(num_rows, np.full(num_rows, 1 / num_rows), 1000).astype(np.int32)
    auc, precision = resample_ranking(outputs, positive, weights)
    # The standard deviation of 1,000 resamples is known to 1 / sqrt(2000) = 2 %; both sides are approximations.
    assert ranked.auc_standard_error == pytest.approx(auc.std(), rel=0.08)
    assert ranked.average_precision_standard_error == pytest.approx(precision.std(), rel=0.08)


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(ranking)
    assert result.attempted >= 1
    assert result.failed == 0
