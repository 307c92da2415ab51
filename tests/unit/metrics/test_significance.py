"""The p-values agree with statsmodels, SciPy and enumerations, and the tests keep their level."""

from __future__ import annotations

import doctest
import functools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cnnlib.metrics import significance
from cnnlib.metrics.intervals import tango_statistic
from tests.unit.metrics.strategies import paired_counts, small_counts


@given(small_counts, small_counts)
def test_mcnemar_agrees_with_statsmodels(only_a: int, only_b: int) -> None:
    expected = mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue if only_a + only_b else 1.0
    assert significance.mcnemar_p(only_a, only_b) == pytest.approx(expected, abs=1e-12)


@given(small_counts, small_counts)
def test_one_sided_mcnemar_is_a_binomial_test_of_a_half(only_a: int, only_b: int) -> None:
    rows = only_a + only_b
    expected = stats.binomtest(only_a, rows, 0.5, alternative="greater").pvalue if rows else 1.0
    assert significance.mcnemar_drop_p(only_a, only_b) == pytest.approx(expected, abs=1e-12)
    assert significance.paired_drop_p(only_a, only_b, max(rows, 1), 0.0) == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1))
def test_accuracy_below_a_minimum_is_a_binomial_test(rows: int, fraction: float, minimum: float) -> None:
    correct = round(fraction * rows)
    expected = stats.binomtest(correct, rows, minimum, alternative="less").pvalue
    assert significance.below_p(correct, rows, minimum) == pytest.approx(expected, abs=1e-12)


@given(small_counts, small_counts, st.floats(0, 1))
def test_binomial_tests_agree_with_an_enumeration(only_a: int, only_b: int, minimum: float) -> None:
    rows = only_a + only_b
    tail = sum(math.comb(rows, count) for count in range(min(only_a, only_b) + 1)) / 2**rows
    assert significance.mcnemar_p(only_a, only_b) == pytest.approx(min(1.0, 2 * tail), abs=1e-12)
    expected = sum(
        math.comb(rows, count) * minimum**count * (1 - minimum) ** (rows - count)
        for count in range(only_a + 1)
    )
    assert significance.below_p(only_a, rows, minimum) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    with mock.patch("gc.collect"):  # which statsmodels calls each time: 0.1 to 0.3 s
        expected = multipletests(p_values, method="holm")[1]
    assert significance.holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_holm_of_nothing_is_nothing() -> None:
    assert significance.holm([]) == []


@given(st.integers(1, 80), st.integers(1, 80), st.floats(0, 1), st.floats(0, 1))
def test_unpaired_tests_are_fishers_exact(
    rows_a: int, rows_b: int, fraction_a: float, fraction_b: float
) -> None:
    correct_a, correct_b = round(fraction_a * rows_a), round(fraction_b * rows_b)
    table = [[correct_a, rows_a - correct_a], [correct_b, rows_b - correct_b]]
    two_sided = significance.unpaired_p(correct_a, rows_a, correct_b, rows_b)
    sides = [stats.fisher_exact(table, side).pvalue for side in ("less", "greater")]
    assert two_sided == pytest.approx(min(1.0, 2 * min(sides)), abs=1e-9)
    one_sided = significance.unpaired_drop_p(correct_a, rows_a, correct_b, rows_b, 0.0)
    assert one_sided == pytest.approx(stats.fisher_exact(table, "greater").pvalue, abs=1e-9)


@given(st.integers(1, 80), st.integers(1, 80), st.booleans(), st.data())
def test_fishers_test_agrees_with_an_enumeration(
    rows_a: int, rows_b: int, equal: bool, data: st.DataObject
) -> None:
    rows_b = rows_a if equal else rows_b
    correct_a, correct_b = data.draw(st.integers(0, rows_a)), data.draw(st.integers(0, rows_b))
    correct = correct_a + correct_b
    tables = {
        count: math.comb(rows_a, count) * math.comb(rows_b, correct - count)
        for count in range(min(rows_a, correct) + 1)
    }
    below = sum(tables[count] for count in tables if count <= correct_a)
    one_sided = sum(tables[count] for count in tables if count >= correct_a)
    total = math.comb(rows_a + rows_b, correct)
    two_sided = min(total, 2 * min(below, one_sided))
    p_values = (
        significance.unpaired_p(correct_a, rows_a, correct_b, rows_b),
        significance.unpaired_drop_p(correct_a, rows_a, correct_b, rows_b, 0.0),
    )
    assert p_values == pytest.approx((two_sided / total, one_sided / total), abs=1e-12)


@pytest.mark.parametrize(("rows", "limit"), [(8, 0.1), (20, 0.05), (40, 0.02)])
def test_paired_drop_test_keeps_its_level_exactly(rows: int, limit: float) -> None:
    """Sums the probability of a rejection over all tables of that many rows, under the largest allowed drop."""
    tables = [(a, b) for a in range(rows + 1) for b in range(rows + 1 - a)]
    p_values = np.array([significance.paired_drop_p(a, b, rows, limit) for a, b in tables])
    a, b = np.array(tables).T
    for rate in np.linspace(0, (1 - limit) / 2, 23):
        probabilities = stats.multinomial.pmf(
            np.stack([a, b, rows - a - b], axis=1), rows, [rate + limit, rate, max(0.0, 1 - 2 * rate - limit)]
        )
        for level in (0.001, 0.01, 0.05, 0.2):
            assert probabilities[p_values <= level].sum() <= level + 1e-9


def test_paired_drop_test_corrects_what_the_normal_distribution_gets_wrong() -> None:
    """19 of 1000 rows are lost, 10 are allowed: p is 0.7 % in a binomial test of 1 %, 0.2 % in the normal one."""
    exact = stats.binomtest(19, 1000, 0.01, alternative="greater").pvalue
    normal = stats.norm.sf(tango_statistic(19, 0, 1000, 0.01))
    found = significance.paired_drop_p(19, 0, 1000, 0.01)
    assert exact * 0.9 <= found <= exact * 1.2
    assert normal < found / 2


def test_paired_drop_test_has_the_normal_one_as_its_limit() -> None:
    for only_a, only_b, rows in ((6100, 4700, 100_000), (12_000, 10_700, 100_000)):
        normal = float(stats.norm.sf(tango_statistic(only_a, only_b, rows, 0.01)))
        assert significance.paired_drop_p(only_a, only_b, rows, 0.01) == pytest.approx(normal, rel=0.1)


@settings(max_examples=30)
@given(paired_counts(), st.floats(0.001, 0.3))
def test_drop_that_keeps_its_limit_is_never_significant(counts: tuple[int, int, int], limit: float) -> None:
    only_a, only_b, rows = counts
    p_value = significance.paired_drop_p(only_a, only_b, rows, limit)
    assert 0 <= p_value <= 1
    if (only_a - only_b) / rows <= limit:
        assert p_value >= 0.3


@pytest.mark.parametrize("limit", [0.01, 0.05])
def test_unpaired_drop_test_keeps_its_level(limit: float) -> None:
    generator = np.random.default_rng(20261122)
    drop_p = functools.cache(significance.unpaired_drop_p)  # many samples are equal
    for rows, fraction in ((100, 0.9), (1000, 0.95)):
        before, now = (
            generator.binomial(rows, fraction, 2000),
            generator.binomial(rows, fraction - limit, 2000),
        )
        rejected = [
            drop_p(int(a), rows, int(b), rows, limit) <= 0.05 for a, b in zip(before, now, strict=True)
        ]
        assert np.mean(rejected) <= 0.06  # 5 % and two standard deviations of 2,000 samples


def test_unpaired_drop_test_uses_the_maximum_likelihood_accuracies() -> None:
    """The statistic from the root of the cubic is that of a numeric maximum of the likelihood."""

    def negative_log_likelihood(rate: float) -> float:
        return -(
            90 * np.log(rate) + 10 * np.log1p(-rate) + 70 * np.log(rate - 0.1) + 30 * np.log1p(0.1 - rate)
        )

    rate = optimize.minimize_scalar(negative_log_likelihood, bounds=(0.11, 0.99), method="bounded").x
    variance = rate * (1 - rate) / 100 + (rate - 0.1) * (1.1 - rate) / 100
    expected = stats.norm.sf(0.1 / np.sqrt(variance))
    assert significance.unpaired_drop_p(90, 100, 70, 100, 0.1) == pytest.approx(expected, rel=1e-4)


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(significance)
    assert result.attempted >= 7
    assert result.failed == 0
