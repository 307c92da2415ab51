"""Draws random scored rows and counts for the tests of the metrics."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from cnnlib.metrics.sums.rows import ScoredRows

small_counts = st.integers(0, 60)
_replacements = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 5), st.floats(0, 1, width=32)), max_size=8
)


@st.composite
def scored_rows(
    draw: st.DrawFn, *, min_rows: int = 1, max_rows: int = 40, min_classes: int = 2
) -> ScoredRows:
    """Draws rows whose probabilities sum to 1: any values, any magnitudes, or few different values, so that many tie.

    Some classes may have no row, or never be predicted. A generator fills the arrays, because a draw per element would
    take most of a test's time; Hypothesis chooses its seed and replaces some of the values.
    """
    num_rows, num_classes = draw(st.integers(min_rows, max_rows)), draw(st.integers(min_classes, 6))
    shape, generator = (num_rows, num_classes), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["few values", "any values", "any magnitude"]))
    if kind == "few values":
        weights = generator.integers(0, 4, shape).astype(np.float64)
    elif kind == "any values":
        weights = generator.random(shape)
    else:
        weights = 10 ** generator.uniform(-45, 0, shape)
    for row, index, weight in draw(_replacements):
        weights[row % num_rows, index % num_classes] = weight
    weights[weights.sum(axis=1) < 1e-3] = 1.0
    classes = generator.permutation(num_classes)[: draw(st.integers(1, num_classes))]
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return ScoredRows.from_probabilities(
        np.arange(num_rows), generator.choice(classes, num_rows), probabilities
    )


@st.composite
def paired_counts(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draws the number of rows that only A predicts right, that only B predicts right, and of all rows."""
    only_a, only_b = draw(small_counts), draw(small_counts)
    return only_a, only_b, max(1, only_a + only_b + draw(st.integers(0, 400)))
