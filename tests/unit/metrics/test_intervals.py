"""Compares intervals of proportions and their differences with published values and independent formulas."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, special
from statsmodels.stats.proportion import confint_proportions_2indep

from cnnlib.metrics import intervals
from cnnlib.metrics.intervals import (
    Proportion,
    paired_interval,
    proportion,
    tango_statistic,
    unpaired_interval,
    wilson_interval,
)
from tests.unit.metrics.strategies import paired_counts

Z = 1.959963984540054
correct_and_total = st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


# R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(correct_and_total)
def test_wilson_bounds_solve_the_equation_they_come_from(counts: tuple[int, int]) -> None:
    """|p - k/n| = z sqrt(p (1 - p) / n) holds at both ends."""
    correct, total = counts
    for bound in wilson_interval(correct, total):
        distance = (bound - correct / total) ** 2
        # Relative to 1: at 1e7 rows both sides are about 1e-7, and p - k/n loses half its digits.
        assert distance == pytest.approx(Z * Z * bound * (1 - bound) / total, abs=1e-14, rel=1e-6)


@given(correct_and_total)
def test_wilson_interval_holds_the_fraction_and_stays_within_0_and_1(counts: tuple[int, int]) -> None:
    correct, total = counts
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


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_unpaired_interval_agrees_with_statsmodels(
    rows_a: int, rows_b: int, fraction_a: float, fraction_b: float
) -> None:
    correct_a, correct_b = round(fraction_a * rows_a), round(fraction_b * rows_b)
    expected = confint_proportions_2indep(correct_b, rows_b, correct_a, rows_a, method="newcomb")
    low, high = unpaired_interval(correct_a, rows_a, correct_b, rows_b)
    assert (float(low), float(high)) == pytest.approx(expected, abs=1e-9)


@given(paired_counts(), st.floats(-0.9, 0.9))
def test_tango_statistic_uses_the_maximum_likelihood_rate(counts: tuple[int, int, int], drop: float) -> None:
    only_a, only_b, rows = counts
    lowest, highest = max(0.0, -drop), (1 - drop) / 2

    counted = np.array([only_a, only_b, rows - only_a - only_b])

    def negative_log_likelihood(rate: float) -> float:
        rates = np.array([rate + drop, rate, 1 - 2 * rate - drop])
        return -float(special.xlogy(counted, np.maximum(rates, 1e-300)).sum())

    found = optimize.minimize_scalar(
        negative_log_likelihood, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-12}
    )
    variance = rows * (2 * found.x + drop * (1 - drop))
    if variance < 1e-3:  # the maximum is at an edge, which the search only comes close to
        return
    expected = (only_a - only_b - rows * drop) / np.sqrt(variance)
    assert float(tango_statistic(only_a, only_b, rows, drop)) == pytest.approx(expected, abs=1e-3, rel=1e-3)


@given(paired_counts())
def test_paired_interval_ends_where_the_score_test_just_does_not_reject(counts: tuple[int, int, int]) -> None:
    only_a, only_b, rows = counts
    low, high = (float(end) for end in paired_interval(only_a, only_b, rows))
    difference, rounding = (only_b - only_a) / rows, 1e-12
    assert -1 <= low <= difference + rounding
    assert difference - rounding <= high <= 1
    for end, statistic in ((low, -1.959964), (high, 1.959964)):
        if abs(end) < 1 - 1e-9:
            found = float(tango_statistic(only_a, only_b, rows, -end))
            assert found == pytest.approx(statistic, abs=1e-3)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        # Fagerland, Lydersen, Laake, "Recommended tests and confidence intervals for paired binomial proportions",
        # Statistics in Medicine 33 (2014): airway hyper-responsiveness, 1 and 7 of 21 pairs.
        ((1, 7, 21), (0.026, 0.517)),
        # z^2 / (n + z^2), which Tango's statistic gives in closed form where no row differs.
        ((0, 0, 50), (-0.0713, 0.0713)),
    ],
)
def test_paired_interval_of_known_examples(
    counts: tuple[int, int, int], interval: tuple[float, float]
) -> None:
    assert [float(end) for end in paired_interval(*counts)] == pytest.approx(interval, abs=5e-4)


def test_intervals_without_rows_are_nan() -> None:
    for low, high in (paired_interval(0, 0, 0), unpaired_interval(0, 0, 1, 2)):
        assert np.isnan(low)
        assert np.isnan(high)


def newcombe_method_10(
    both: NDArray[np.int64], only_a: NDArray[np.int64], only_b: NDArray[np.int64], rows: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns Newcombe's interval of the drop from A to B (Statistics in Medicine 17, 2635-2650, method 10)."""
    neither = rows - both - only_a - only_b
    right_a, right_b = both + only_a, both + only_b
    (low_a, high_a), (low_b, high_b) = wilson_interval(right_a, rows), wilson_interval(right_b, rows)
    product = both * neither - only_a * only_b
    corrected = np.where(product > rows / 2, product - rows / 2, np.where(product < 0, product, 0))
    margins = np.sqrt(right_a * (rows - right_a) * right_b * (rows - right_b))
    phi = np.where(margins > 0, corrected / np.maximum(margins, 1e-9), 0.0)
    accuracy_a, accuracy_b = right_a / rows, right_b / rows
    below, above = (accuracy_a - low_a, high_b - accuracy_b), (high_a - accuracy_a, accuracy_b - low_b)
    low = accuracy_a - accuracy_b - np.sqrt(below[0] ** 2 - 2 * phi * below[0] * below[1] + below[1] ** 2)
    high = accuracy_a - accuracy_b + np.sqrt(above[0] ** 2 - 2 * phi * above[0] * above[1] + above[1] ** 2)
    return low, high


# Probabilities that only A, only B, and both are right: models of 90 %, of 75 and 70 %, and some that hardly differ.
MODEL_PAIRS = [
    (0.05, 0.05, 0.85),
    (0.10, 0.05, 0.65),
    (0.02, 0.01, 0.95),
    (0.15, 0.05, 0.6),
    (0.01, 0.01, 0.9),
]


@pytest.mark.parametrize("rows", [50, 200, 1000])
def test_paired_interval_covers_the_truth_closer_to_95_percent_than_newcombes(rows: int) -> None:
    generator = np.random.default_rng(20261122)
    tango, newcombe = [], []
    for only_a, only_b, both in MODEL_PAIRS:
        rates = [only_a, only_b, both, 1 - only_a - only_b - both]
        a, b, right, _ = generator.multinomial(rows, rates, size=4000).T
        low, high = paired_interval(a, b, rows)
        drop = only_a - only_b
        tango.append(float(((low <= -drop) & (-drop <= high)).mean()))
        low, high = newcombe_method_10(right, a, b, rows)
        newcombe.append(float(((low <= drop) & (drop <= high)).mean()))
    # With a coverage of 95 %, 4,000 samples show 0.94..0.96 in 99.6 % of all cases; few rows give few different values.
    assert min(tango) >= 0.935
    assert max(abs(coverage - 0.95) for coverage in tango) <= max(
        abs(coverage - 0.95) for coverage in newcombe
    )


def test_unpaired_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(20261122)
    for rows, accuracy_a, accuracy_b in ((50, 0.9, 0.85), (300, 0.9, 0.9), (1000, 0.7, 0.75)):
        a, b = generator.binomial(rows, accuracy_a, 4000), generator.binomial(rows, accuracy_b, 4000)
        low, high = unpaired_interval(a, rows, b, rows)
        difference = accuracy_b - accuracy_a
        assert 0.935 <= ((low <= difference) & (difference <= high)).mean() <= 0.985


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(intervals)
    assert result.attempted >= 7
    assert result.failed == 0
