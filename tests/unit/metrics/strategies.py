"""Random scored rows for the tests of the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cnnlib.metrics.sums.rows import ScoredRows


@st.composite
def scored_rows(
    draw: st.DrawFn, *, min_rows: int = 1, max_rows: int = 40, min_classes: int = 2
) -> ScoredRows:
    """Rows whose probabilities sum to 1: of continuous values, or of a few, so that ties are common.

    Some classes may have no row, or never be predicted.
    """
    num_rows, num_classes = draw(st.integers(min_rows, max_rows)), draw(st.integers(min_classes, 6))
    weight: st.SearchStrategy[Any] = (
        st.floats(0, 1, width=32) if draw(st.booleans()) else st.integers(0, 3).map(float)
    )
    weights = draw(npst.arrays(np.float64, (num_rows, num_classes), elements=weight))
    weights[weights.sum(axis=1) < 1e-3] = 1.0
    labels = draw(npst.arrays(np.int64, num_rows, elements=st.integers(0, num_classes - 1)))
    shares = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return ScoredRows.from_probabilities(np.arange(num_rows), labels, shares)


small_counts = st.integers(0, 60)


@st.composite
def paired_counts(draw: st.DrawFn) -> tuple[int, int, int]:
    """Rows that only A has right, that only B has right, and all rows."""
    only_a, only_b = draw(small_counts), draw(small_counts)
    return only_a, only_b, max(1, only_a + only_b + draw(st.integers(0, 400)))
