"""Counts of right rows of two models in; the interval of the difference in accuracy and its p-value out.

Both are cached: of 20,000 classes with few rows each, most have counts that others have, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from cnnlib.metrics import significance
from cnnlib.metrics.intervals import paired_interval, unpaired_interval

Counts = tuple[int, int]
"""Correct rows, and all rows."""
_CACHED = 10_000


class DifferenceTest(NamedTuple):
    """The 95 % interval of B's accuracy minus A's, in -1..1, before it is matched with the p-value, and the p-value."""

    low: float
    high: float
    p_value: float


@lru_cache(maxsize=_CACHED)
def measure_paired(lost: int, won: int, rows: int) -> DifferenceTest:
    """Tests two models on the same rows, of which only A has `lost` right, and only B `won`."""
    low, high = paired_interval(lost, won, rows)
    return DifferenceTest(float(low), float(high), significance.mcnemar_p(lost, won))


@lru_cache(maxsize=_CACHED)
def measure_unpaired(a: Counts, b: Counts) -> DifferenceTest:
    """Tests two models on different rows; the p-value is 1 where either has none."""
    low, high = unpaired_interval(*a, *b)
    p_value = significance.unpaired_p(*a, *b) if a[1] and b[1] else 1.0
    return DifferenceTest(float(low), float(high), p_value)
