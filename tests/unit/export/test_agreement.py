"""Models agree only if no probability differs by more than the tolerance, however the images are cut into parts."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from cnnlib.export.agreement import Agreement, compare, to_probabilities

SEEDS = st.integers(0, 10_000)


@given(seed=SEEDS, cuts=st.lists(st.integers(1, 29), max_size=4, unique=True))
def test_agreement_of_parts_is_that_of_all_images(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = rng.dirichlet(np.ones(4), (2, 30)).astype(np.float32)
    parts = zip(np.split(theirs, sorted(cuts)), np.split(ours, sorted(cuts)), strict=True)
    merged = reduce(Agreement.merge, (compare(*part) for part in parts))
    assert merged == compare(theirs, ours)
    assert merged.images == 30
    assert merged.same_class == sum(a.argmax() == b.argmax() for a, b in zip(ours, theirs, strict=True))


@given(seed=SEEDS, tolerance=st.floats(1e-6, 0.2))
def test_within_the_tolerance_only_nearly_equal_classes_change_places(seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    ours = rng.dirichlet(np.ones(3), 50)
    theirs = ours + rng.uniform(-tolerance, tolerance, ours.shape)
    if compare(theirs, ours).lies_within(tolerance):
        other = theirs.argmax(axis=1)
        gaps = ours.max(axis=1) - ours[np.arange(len(ours)), other]
        assert gaps.max() <= 2 * tolerance


@pytest.mark.parametrize("order", [1, -1])
def test_a_value_that_is_not_a_number_is_a_disagreement(order: int) -> None:
    good, bad = np.array([[0.5, 0.5]], np.float32), np.array([[math.nan, 0.5]], np.float32)
    parts = [compare(good, good), compare(bad, good)][::order]
    merged = reduce(Agreement.merge, parts)
    assert math.isnan(merged.largest_difference)
    assert not merged.lies_within(1.0)


def test_logits_become_the_probabilities_of_a_softmax_however_large_they_are() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0], [0.0, 1.0, 2.0]], np.float32)
    np.testing.assert_allclose(to_probabilities(logits, logits=True), softmax(logits, axis=1), atol=1e-7)
    assert to_probabilities(logits, logits=False) is logits
