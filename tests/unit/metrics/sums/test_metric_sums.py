"""Sums over rows are exact and do not depend, to the last bit, on how the rows are split into parts."""

from __future__ import annotations

import doctest
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.metrics.sums import calibration, exact, histogram, metric_sums
from cnnlib.metrics.sums.exact import ExactSums
from cnnlib.metrics.sums.histogram import histogram_bin
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import EXACT_VALUES, ScoredRows, keeps_rows
from tests.unit.metrics.strategies import scored_rows


def add_up(rows: ScoredRows, where: object = slice(None), *, top_k: int = 2) -> MetricSums:
    labels, probabilities = rows.labels[where], rows.probabilities[where]  # type: ignore[index]
    return MetricSums.from_probabilities(labels, probabilities, top_k=top_k, histogram=True)


def test_sums_add_up_loss_and_hits_of_a_batch() -> None:
    batch = [[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]]
    sums = MetricSums.from_probabilities([0, 1, 2], batch, top_k=2)
    assert sums.confusion.to_matrix().tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    # Row 2: classes 0 and 2 are equal, and the lower index goes first, so class 2 comes third.
    assert sums.top_k_hits.tolist() == [1, 1, 0]
    assert sums.top_k_correct == 2
    # float32 rounds 0.2 and 0.3.
    assert sums.loss.to_float() == pytest.approx(-np.log([0.5, 0.2, 0.3]), rel=1e-7)
    assert sums.loss_sum == pytest.approx(-math.log(0.5) - math.log(0.2) - math.log(0.3), rel=1e-7)
    assert sums.rows == 3


def test_loss_of_probability_zero_is_that_of_keras() -> None:
    sums = MetricSums.from_probabilities([0], [[0.0, 1.0]], top_k=1)
    assert sums.loss_sum == pytest.approx(-math.log(1e-7), rel=1e-10)


@given(scored_rows())
def test_top_one_is_the_accuracy_even_with_ties(rows: ScoredRows) -> None:
    sums = add_up(rows, top_k=1)
    assert sums.top_k_hits.tolist() == sums.confusion.correct_by_class.tolist()


@given(scored_rows(), st.integers(1, 7))
def test_top_k_equals_a_stable_sort(rows: ScoredRows, top_k: int) -> None:
    best = np.argsort(-rows.probabilities, axis=1, kind="stable")[:, :top_k]
    hits = sum(label in row for label, row in zip(rows.labels, best.tolist(), strict=True))
    assert add_up(rows, top_k=top_k).top_k_correct == hits


@given(scored_rows(), st.integers(0, 40), st.integers(0, 40), st.randoms())
def test_merging_in_any_grouping_and_order_gives_the_sums_of_the_whole(
    rows: ScoredRows, first: int, second: int, random: object
) -> None:
    cuts = sorted((first, second))
    parts = [add_up(rows, where) for where in (slice(cuts[0]), slice(*cuts), slice(cuts[1], None))]
    whole, (a, b, c) = add_up(rows), parts
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == whole
    random.shuffle(parts)  # type: ignore[attr-defined]
    assert MetricSums.merge_all(parts) == whole
    assert whole.merge(MetricSums.zero(whole.num_classes, top_k=2, histogram=True)) == whole
    assert MetricSums.merge_all([whole, whole]) != whole


def test_rows_of_many_blocks_add_up_like_those_of_one() -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 3, 10_000), rng.dirichlet(np.ones(3), 10_000).astype(np.float32)
    whole = MetricSums.from_probabilities(labels, probabilities, top_k=1)
    odd = [slice(first, first + 777) for first in range(0, 10_000, 777)]
    parts = [MetricSums.from_probabilities(labels[at], probabilities[at], top_k=1) for at in odd]
    assert MetricSums.merge_all(reversed(parts)) == whole


def test_sums_of_a_billion_rows_do_not_overflow() -> None:
    sums = MetricSums.from_probabilities([0] * 4096, [[0.0, 1.0]] * 4096, top_k=1)
    for _ in range(20):
        sums = sums.merge(sums)
    assert sums.rows == 4096 * 2**20
    assert sums.loss_sum / sums.rows == pytest.approx(-math.log(1e-7), rel=1e-9)
    squares = sums.loss_squares.to_float()[0]
    assert squares / sums.rows == pytest.approx(math.log(1e-7) ** 2, rel=1e-9)
    assert sums.calibration.probability.to_float()[1, 14] == sums.rows


@pytest.mark.parametrize("row", [[math.nan, 0.5], [-3.0, 4.0], [0.5, math.inf]])
def test_values_that_are_not_probabilities_are_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="softmax"):
        MetricSums.from_probabilities([0], [row], top_k=1)


def test_top_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        MetricSums.from_probabilities([0], [[1.0]], top_k=0)


def test_labels_that_do_not_match_the_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="Received 1 predictions, 2 labels"):
        MetricSums.from_probabilities([0, 0], [[1.0]], top_k=1)


def test_sums_of_different_kinds_do_not_merge() -> None:
    with pytest.raises(ValueError, match="different k"):
        MetricSums.zero(2, top_k=2).merge(MetricSums.zero(2, top_k=3))
    with pytest.raises(ValueError, match="different numbers of classes"):
        MetricSums.zero(2, top_k=2).merge(MetricSums.zero(3, top_k=2))
    with pytest.raises(ValueError, match="histogram"):
        MetricSums.zero(2, top_k=2).merge(MetricSums.zero(2, top_k=2, histogram=True))
    with pytest.raises(ValueError, match="Nothing to merge"):
        MetricSums.merge_all([])


@given(scored_rows())
def test_sums_survive_pickling(rows: ScoredRows) -> None:
    sums = add_up(rows)
    assert pickle.loads(pickle.dumps(sums)) == sums


@given(scored_rows())
def test_calibration_bins_hold_every_row_of_every_class_once(rows: ScoredRows) -> None:
    """The expected counts come from comparing every probability with the edges of the bins, one at a time."""
    num_classes = rows.probabilities.shape[1]
    counts, hits = np.zeros((2, num_classes + 1, 15), int)
    for label, row in zip(rows.labels, rows.probabilities, strict=True):
        lines = [(index, probability, index == label) for index, probability in enumerate(row)]
        lines.append((num_classes, row.max(), row.argmax() == label))
        for line, probability, hit in lines:
            bin_index = next(
                index for index in range(15) if float(probability) <= (index + 1) / 15 or index == 14
            )
            counts[line, bin_index] += 1
            hits[line, bin_index] += hit
    bins = add_up(rows).calibration
    assert bins.rows.tolist() == counts.tolist()
    assert bins.hits.tolist() == hits.tolist()


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50))
def test_histogram_bins_never_decrease_while_the_probability_increases(values: list[float]) -> None:
    bins = histogram_bin(np.sort(np.array(values, np.float32)))
    assert (np.diff(bins) >= 0).all()
    assert 0 <= bins[0] <= bins[-1] < histogram.NUM_BINS


def test_histogram_has_different_bins_for_close_probabilities_near_0_and_1() -> None:
    near = np.array(
        [0, 1e-9, 1e-6, 1.1e-6, 1e-3, 0.5, 1 - 1e-3, 1 - 1.1e-6, 1 - 1e-6, 1 - 1e-7, 1], np.float32
    )
    assert len(set(histogram_bin(near).tolist())) == len(near)


def test_rows_are_merged_in_the_order_of_their_ids() -> None:
    parts = [ScoredRows.from_probabilities([at], [at % 2], [[0.5, 0.5]]) for at in (2, 0, 1)]
    merged = ScoredRows.merge_all(parts)
    assert (merged.ids.tolist(), merged.labels.tolist(), len(merged)) == ([0, 1, 2], [0, 1, 0], 3)


def test_rows_are_kept_up_to_the_stated_number_of_probabilities() -> None:
    assert keeps_rows(EXACT_VALUES // 10, 10)
    assert not keeps_rows(EXACT_VALUES // 10 + 1, 10)


def test_sums_know_when_they_are_equal() -> None:
    assert ExactSums.from_units([1, 2]) == ExactSums.from_units([1, 2])
    assert ExactSums.from_units([1, 2]) != ExactSums.from_units([1, 3])


@pytest.mark.parametrize("module", [calibration, metric_sums])
def test_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted >= 1
    assert result.failed == 0
    assert exact.UNITS == 2**32
