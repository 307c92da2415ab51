"""The search doubles, or halves, then narrows down; no size is tried twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.training.largest_batch.search import find_largest


def search(most: int, first: int, unit: int = 1, highest: int = 4096) -> tuple[int | None, list[int]]:
    """Returns what is found where batches of at most `most` rows fit, and the batches that were tried."""
    tried: list[int] = []

    def fits(rows: int) -> bool:
        tried.append(rows)
        return rows <= most

    return find_largest(fits, first=first, unit=unit, highest=highest), tried


@pytest.mark.parametrize(
    ("most", "first", "unit", "highest", "found", "tried"),
    [
        (100, 32, 1, 4096, 96, [32, 64, 128, 96, 112, 104]),
        (5, 32, 1, 4096, 5, [32, 16, 8, 4, 6, 5]),
        (10_000, 32, 1, 300, 300, [32, 64, 128, 256, 300]),
        (10_000, 512, 1, 300, 300, [300]),
        (0, 4, 1, 4096, None, [4, 2, 1]),
        (100, 32, 12, 4096, 96, [24, 48, 96, 192, 144, 120, 108]),
        (11, 32, 12, 4096, None, [24, 12]),
        (64, 64, 1, 64, 64, [64]),
        (1, 1, 1, 1, 1, [1]),
    ],
)
def test_batches_that_are_tried(
    most: int, first: int, unit: int, highest: int, found: int | None, tried: list[int]
) -> None:
    assert search(most, first, unit, highest) == (found, tried)


@given(
    most=st.integers(0, 5000),
    first=st.integers(1, 5000),
    unit=st.integers(1, 12),
    highest=st.integers(12, 5000),
)
def test_the_found_batch_fits_and_is_at_most_an_eighth_too_small(
    most: int, first: int, unit: int, highest: int
) -> None:
    found, tried = search(most, first, unit, highest)
    assert len(tried) == len(set(tried)) <= 24
    assert all(rows % unit == 0 and unit <= rows <= highest for rows in tried)
    best = min(most, highest) // unit * unit  # the largest that is possible
    if best == 0:
        assert found is None
    else:
        assert found is not None
        assert found <= best
        assert best - found <= max(unit, found / 8)
        assert found in tried
