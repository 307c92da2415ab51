"""Shares of rows and their intervals, against published values and formulas of their own."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.metrics import per_class
from cnnlib.metrics.per_class import Proportion, per_class_accuracy, proportion, wilson_interval

Z = 1.959963984540054
shares = st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


# R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(shares)
def test_wilson_bounds_solve_the_equation_they_come_from(fraction: tuple[int, int]) -> None:
    """|p - k/n| = z sqrt(p (1 - p) / n) holds at both ends."""
    correct, total = fraction
    for bound in wilson_interval(correct, total):
        distance = (bound - correct / total) ** 2
        # Relative to 1: at 1e7 rows both sides are about 1e-7, and p - k/n loses half its digits.
        assert distance == pytest.approx(Z * Z * bound * (1 - bound) / total, abs=1e-14, rel=1e-6)


@given(shares)
def test_wilson_interval_holds_the_share_and_stays_a_probability(fraction: tuple[int, int]) -> None:
    correct, total = fraction
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    assert low < high


def test_wilson_interval_of_all_or_nothing_ends_exactly_there() -> None:
    low, high = wilson_interval([0, 7], [7, 7])
    assert low[0] == 0.0
    assert high[1] == 1.0


def test_wilson_interval_of_no_rows_is_nan() -> None:
    low, high = wilson_interval([0, 1], [0, 2])
    assert np.isnan([low[0], high[0]]).all()
    assert not np.isnan([low[1], high[1]]).any()


def test_wilson_interval_narrows_with_a_smaller_z() -> None:
    wide, narrow = wilson_interval(5, 10), wilson_interval(5, 10, z=1.0)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_proportion_of_no_rows_is_none() -> None:
    assert proportion(0, 0) == Proportion(None, None, None)


def test_accuracy_of_a_class_without_rows_is_nan() -> None:
    np.testing.assert_array_equal(per_class_accuracy([[2, 0], [0, 0]]), [1.0, np.nan])


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(per_class)
    assert result.attempted >= 3
    assert result.failed == 0
