"""Counts are exact and do not depend on how the rows are split into parts."""

from __future__ import annotations

import doctest

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
counts = npst.arrays(np.int64, (3, 3), elements=st.integers(0, 2**40)).map(ConfusionCounts)


def count(rows: list[tuple[int, int]]) -> ConfusionCounts:
    return ConfusionCounts.from_labels([t for t, _ in rows], [p for _, p in rows], NUM_CLASSES)


def test_rows_are_true_classes_and_columns_are_predicted_ones() -> None:
    confused = ConfusionCounts.from_labels([0, 0, 0, 2], [0, 1, 1, 2], num_classes=3)
    assert confused.counts.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert (confused.rows, confused.correct, confused.num_classes) == (4, 2, 3)
    assert confused.counts.dtype == np.int64


@given(pairs)
def test_counts_equal_counting_by_hand(rows: list[tuple[int, int]]) -> None:
    by_hand = np.zeros((NUM_CLASSES, NUM_CLASSES), int)
    for true, predicted in rows:
        by_hand[true, predicted] += 1
    assert count(rows).counts.tolist() == by_hand.tolist()


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
    assert confused.counts[200, 255] == 300


def test_counts_cannot_be_changed_afterwards() -> None:
    source = np.zeros((2, 2), np.int64)
    confused = ConfusionCounts(source)
    source[0, 0] = 7
    assert confused.rows == 0
    with pytest.raises(ValueError, match="read-only"):
        confused.counts[0, 0] = 1


@pytest.mark.parametrize("cells", [[[1, 2]], [[1.5, 0], [0, 1]], [[-1, 0], [0, 1]], [1]])
def test_cells_that_are_no_square_of_counts_are_refused(cells: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="Confusion counts must be"):
        ConfusionCounts(cells)


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


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(confusion)
    assert result.attempted >= 1
    assert result.failed == 0
