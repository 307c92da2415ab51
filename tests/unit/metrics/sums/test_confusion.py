"""Counts are exact and do not depend on how the rows are split into parts."""

from __future__ import annotations

import doctest
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cnnlib.metrics.sums import confusion
from cnnlib.metrics.sums.confusion import ConfusionCounts

NUM_CLASSES = 4

labels = st.integers(0, NUM_CLASSES - 1)
pairs = st.lists(st.tuples(labels, labels), max_size=30)
counts = npst.arrays(np.int64, (3, 3), elements=st.integers(0, 2**40)).map(ConfusionCounts.from_matrix)


def count(rows: list[tuple[int, int]]) -> ConfusionCounts:
    return ConfusionCounts.from_labels([t for t, _ in rows], [p for _, p in rows], NUM_CLASSES)


def test_rows_are_true_classes_and_columns_are_predicted_ones() -> None:
    confused = ConfusionCounts.from_labels([0, 0, 0, 2], [0, 1, 1, 2], num_classes=3)
    assert confused.to_matrix().tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert (confused.rows, confused.correct, confused.num_classes) == (4, 2, 3)
    assert confused.counts.dtype == np.int64


@given(pairs)
def test_counts_equal_counting_by_hand(rows: list[tuple[int, int]]) -> None:
    by_hand = np.zeros((NUM_CLASSES, NUM_CLASSES), int)
    for true, predicted in rows:
        by_hand[true, predicted] += 1
    assert count(rows).to_matrix().tolist() == by_hand.tolist()


@pytest.mark.parametrize(
    ("true", "predicted"), [([0, 3], [0, 0]), ([0, 0], [0, 3]), ([-1], [0]), ([0], [-1])]
)
def test_label_out_of_range_is_refused(true: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.2"):
        ConfusionCounts.from_labels(true, predicted, num_classes=3)


def test_labels_that_are_not_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="true must be integers"):
        ConfusionCounts.from_labels([0.0, 1.0], [0, 1], num_classes=3)


def test_two_label_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="Received 2 true, 1 predicted"):
        ConfusionCounts.from_labels([0, 1], [0], num_classes=3)


def test_large_counts_of_uint8_labels_do_not_overflow() -> None:
    confused = ConfusionCounts.from_labels(np.full(300, 200, np.uint8), np.full(300, 255, np.uint8), 256)
    assert (confused.count(200, 255), confused.count(255, 200)) == (300, 0)


def test_counts_cannot_be_changed_afterwards() -> None:
    codes, counts = np.array([2]), np.array([3])
    confused = ConfusionCounts(2, codes, counts)
    codes[0], counts[0] = 0, 7
    assert confused.to_matrix().tolist() == [[0, 0], [3, 0]]
    for values in (confused.codes, confused.counts):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1


@pytest.mark.parametrize("cells", [[[1, 2]], [[1.5, 0], [0, 1]], [[-1, 0], [0, 1]], [1]])
def test_cells_that_are_no_square_of_counts_are_refused(cells: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="Confusion counts must be"):
        ConfusionCounts.from_matrix(cells)


@given(counts, counts, counts)
def test_merge_is_associative_and_commutative(
    a: ConfusionCounts, b: ConfusionCounts, c: ConfusionCounts
) -> None:
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(b) == b.merge(a)
    assert a.merge(ConfusionCounts.zero(3)) == a


@given(pairs, st.integers(0, 30))
def test_merged_parts_equal_the_whole(rows: list[tuple[int, int]], cut: int) -> None:
    assert count(rows[:cut]).merge(count(rows[cut:])) == count(rows)


def test_counts_of_different_numbers_of_classes_do_not_merge() -> None:
    with pytest.raises(ValueError, match="2 and 3 classes"):
        ConfusionCounts.zero(2).merge(ConfusionCounts.zero(3))


@given(npst.arrays(np.int64, (5, 5), elements=st.integers(0, 2**54)))
def test_sums_of_the_pairs_equal_those_of_the_dense_matrix(matrix: np.ndarray) -> None:
    sparse = ConfusionCounts.from_matrix(matrix)
    assert (sparse.counts > 0).all()
    assert (np.diff(sparse.codes) > 0).all()
    assert np.array_equal(sparse.to_matrix(), matrix)
    assert np.array_equal(sparse.correct_by_class, np.diag(matrix))
    assert np.array_equal(sparse.rows_by_true, matrix.sum(axis=1))
    assert np.array_equal(sparse.rows_by_predicted, matrix.sum(axis=0))
    assert (sparse.rows, sparse.correct) == (matrix.sum(), np.trace(matrix))
    true, predicted, counts = sparse.mistakes()
    wrong = matrix * (1 - np.eye(5, dtype=np.int64))
    assert np.array_equal(np.argwhere(wrong), np.column_stack([true, predicted]))
    assert np.array_equal(wrong[true, predicted], counts)


@pytest.mark.parametrize("num_classes", [1024, 1025, 20_000])
def test_many_classes_are_counted_as_few_are(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(num_classes - 30, num_classes, (2, 5000))
    confused = ConfusionCounts.from_labels(true, predicted, num_classes)
    few = ConfusionCounts.from_labels(true - num_classes + 30, predicted - num_classes + 30, 30)
    assert np.array_equal(confused.counts, few.counts)
    assert np.array_equal(confused.rows_by_true[-30:], few.rows_by_true)
    assert confused.rows == 5000
    halves = (
        ConfusionCounts.from_labels(true[part], predicted[part], num_classes)
        for part in (slice(2000), slice(2000, None))
    )
    assert next(halves).merge(next(halves)) == confused
    assert len(pickle.dumps(confused)) < 20_000


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(confusion)
    assert result.attempted >= 1
    assert result.failed == 0
