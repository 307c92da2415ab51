"""Counts and sums: exact, and the same however the rows were split up."""

from __future__ import annotations

import doctest
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cnnlib.metrics import confusion
from cnnlib.metrics.confusion import ConfusionCounts, ScoreSums

NUM_CLASSES = 4

labels = st.integers(0, NUM_CLASSES - 1)
pairs = st.lists(st.tuples(labels, labels), max_size=30)
counts = npst.arrays(np.int64, (3, 3), elements=st.integers(0, 2**40)).map(ConfusionCounts)
# Multiples of 1/8, so that ties are common.
probabilities = npst.arrays(
    np.float64,
    st.tuples(st.integers(0, 12), st.just(NUM_CLASSES)),
    elements=st.integers(0, 8).map(lambda eighths: eighths / 8),
)


def count(rows: list[tuple[int, int]]) -> ConfusionCounts:
    return ConfusionCounts.from_labels([t for t, _ in rows], [p for _, p in rows], NUM_CLASSES)


def score(loss_sum: float, *, top_k: int = 2) -> ScoreSums:
    return ScoreSums(
        confusion=ConfusionCounts([[3, 1], [0, 2]]), loss_sum=loss_sum, top_k=top_k, top_k_correct=6
    )


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


def test_score_adds_up_loss_and_hits_of_a_batch() -> None:
    batch = [[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]]
    scored = ScoreSums.from_probabilities([0, 1, 2], batch, top_k=2)
    assert scored.confusion.counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    # Row 2: classes 0 and 2 are equal, and the lower index goes first, so class 2 comes third.
    assert scored.top_k_correct == 2
    assert scored.loss_sum == pytest.approx(-math.log(0.5) - math.log(0.2) - math.log(0.3), rel=1e-12)
    assert scored.rows == 3


def test_probability_of_zero_costs_what_keras_says_it_costs() -> None:
    scored = ScoreSums.from_probabilities([0], [[0.0, 1.0]], top_k=1)
    assert scored.loss_sum == pytest.approx(-math.log(1e-7), rel=1e-12)


@given(probabilities, st.data())
def test_top_one_is_the_accuracy_even_with_ties(shares: np.ndarray, data: st.DataObject) -> None:
    true = data.draw(st.lists(labels, min_size=len(shares), max_size=len(shares)))
    scored = ScoreSums.from_probabilities(true, shares, top_k=1)
    assert scored.top_k_correct == scored.confusion.correct


@given(probabilities, st.integers(1, NUM_CLASSES + 1), st.data())
def test_top_k_equals_a_stable_sort(shares: np.ndarray, top_k: int, data: st.DataObject) -> None:
    true = data.draw(st.lists(labels, min_size=len(shares), max_size=len(shares)))
    best = np.argsort(-shares, axis=1, kind="stable")[:, :top_k]
    hits = sum(label in row for label, row in zip(true, best.tolist(), strict=True))
    assert ScoreSums.from_probabilities(true, shares, top_k=top_k).top_k_correct == hits


@pytest.mark.parametrize("row", [[math.nan, 0.5], [-3.0, 4.0], [0.5, math.inf]])
def test_what_is_no_probability_is_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="softmax"):
        ScoreSums.from_probabilities([0], [row], top_k=1)


def test_top_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        ScoreSums.from_probabilities([0], [[1.0]], top_k=0)


def test_labels_that_do_not_match_the_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="Received 1 predictions, 2 labels"):
        ScoreSums.from_probabilities([0, 0], [[1.0]], top_k=1)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20), st.randoms())
def test_merge_order_does_not_change_the_last_bit_of_the_loss(losses: list[float], random: object) -> None:
    shuffled = list(losses)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    merged = ScoreSums.merge_all(score(loss) for loss in losses)
    assert merged == ScoreSums.merge_all(score(loss) for loss in shuffled)
    assert (merged.rows, merged.top_k_correct) == (6 * len(losses), 6 * len(losses))


def test_merge_of_two_scores_adds_everything() -> None:
    merged = score(1.5).merge(score(2.0))
    assert merged.confusion.counts.tolist() == [[6, 2], [0, 4]]
    assert (merged.loss_sum, merged.top_k_correct, merged.top_k) == (3.5, 12, 2)
    assert score(1.5).merge(ScoreSums.zero(2, top_k=2)) == score(1.5)


def test_scores_of_different_k_do_not_merge() -> None:
    with pytest.raises(ValueError, match="different k"):
        score(1.0, top_k=2).merge(score(1.0, top_k=3))


def test_no_score_at_all_does_not_merge() -> None:
    with pytest.raises(ValueError, match="Nothing to merge"):
        ScoreSums.merge_all([])


def test_columns_of_many_batches_merge_into_one_score() -> None:
    batches = [score(0.25).to_columns(), score(0.5).to_columns(), score(1.0).to_columns()]
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    assert columns["confusion"].shape == (3, 2, 2)
    assert ScoreSums.from_columns(columns) == ScoreSums.merge_all([score(0.25), score(0.5), score(1.0)])


def test_score_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(score(0.1))) == score(0.1)


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(confusion)
    assert result.attempted >= 2
    assert result.failed == 0
