"""Tests of significance against statsmodels, SciPy and enumerations; intervals by how often they cover the truth."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from cnnlib.metrics import significance
from cnnlib.metrics.per_class import wilson_interval

SMALL = st.integers(0, 60)


@st.composite
def paired_counts(draw: st.DrawFn) -> tuple[int, int, int]:
    """Rows that only A has right, that only B has right, and all rows."""
    only_a, only_b = draw(SMALL), draw(SMALL)
    return only_a, only_b, max(1, only_a + only_b + draw(st.integers(0, 400)))


@given(SMALL, SMALL)
def test_mcnemar_agrees_with_statsmodels(only_a: int, only_b: int) -> None:
    expected = mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue if only_a + only_b else 1.0
    assert significance.mcnemar_p(only_a, only_b) == pytest.approx(expected, abs=1e-12)


@given(SMALL, SMALL)
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


@settings(max_examples=8)  # statsmodels takes its time
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    assert significance.holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_holm_of_nothing_is_nothing() -> None:
    assert significance.holm([]) == []


@given(st.integers(1, 80), st.integers(1, 80), st.floats(0, 1), st.floats(0, 1))
def test_unpaired_tests_are_fishers_exact(rows_a: int, rows_b: int, share_a: float, share_b: float) -> None:
    correct_a, correct_b = round(share_a * rows_a), round(share_b * rows_b)
    table = [[correct_a, rows_a - correct_a], [correct_b, rows_b - correct_b]]
    two_sided = significance.unpaired_p(correct_a, rows_a, correct_b, rows_b)
    assert two_sided == pytest.approx(stats.fisher_exact(table).pvalue, abs=1e-9)
    one_sided = significance.unpaired_drop_p(correct_a, rows_a, correct_b, rows_b, 0.0)
    assert one_sided == pytest.approx(stats.fisher_exact(table, "greater").pvalue, abs=1e-9)


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_unpaired_interval_agrees_with_statsmodels(
    rows_a: int, rows_b: int, share_a: float, share_b: float
) -> None:
    correct_a, correct_b = round(share_a * rows_a), round(share_b * rows_b)
    expected = confint_proportions_2indep(correct_b, rows_b, correct_a, rows_a, method="newcomb")
    low, high = significance.unpaired_interval(correct_a, rows_a, correct_b, rows_b)
    assert (float(low), float(high)) == pytest.approx(expected, abs=1e-9)


@given(paired_counts(), st.floats(-0.9, 0.9))
def test_paired_score_uses_the_most_likely_rate(counts: tuple[int, int, int], drop: float) -> None:
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
    if variance < 1e-3:  # a likelihood at the edge, whose maximum the search only comes close to
        return
    expected = (only_a - only_b - rows * drop) / np.sqrt(variance)
    assert float(significance.paired_score(only_a, only_b, rows, drop)) == pytest.approx(
        expected, abs=1e-3, rel=1e-3
    )


@given(paired_counts())
def test_paired_interval_ends_where_the_score_test_just_does_not_refute(counts: tuple[int, int, int]) -> None:
    only_a, only_b, rows = counts
    low, high = (float(end) for end in significance.paired_interval(only_a, only_b, rows))
    difference, rounding = (only_b - only_a) / rows, 1e-12
    assert -1 <= low <= difference + rounding
    assert difference - rounding <= high <= 1
    for end, score in ((low, -1.959964), (high, 1.959964)):
        if abs(end) < 1 - 1e-9:
            found = float(significance.paired_score(only_a, only_b, rows, -end))
            assert found == pytest.approx(score, abs=1e-3)


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
    assert [float(end) for end in significance.paired_interval(*counts)] == pytest.approx(interval, abs=5e-4)


def test_intervals_without_rows_are_not_numbers() -> None:
    for low, high in (significance.paired_interval(0, 0, 0), significance.unpaired_interval(0, 0, 1, 2)):
        assert np.isnan(low)
        assert np.isnan(high)


def newcombe_method_10(
    both: NDArray[np.int64], only_a: NDArray[np.int64], only_b: NDArray[np.int64], rows: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Newcombe's interval of the drop from A to B (Statistics in Medicine 17, 2635-2650, method 10)."""
    neither = rows - both - only_a - only_b
    right_a, right_b = both + only_a, both + only_b
    (low_a, high_a), (low_b, high_b) = wilson_interval(right_a, rows), wilson_interval(right_b, rows)
    product = both * neither - only_a * only_b
    corrected = np.where(product > rows / 2, product - rows / 2, np.where(product < 0, product, 0))
    margins = np.sqrt(right_a * (rows - right_a) * right_b * (rows - right_b))
    phi = np.where(margins > 0, corrected / np.maximum(margins, 1e-9), 0.0)
    share_a, share_b = right_a / rows, right_b / rows
    below, above = (share_a - low_a, high_b - share_b), (high_a - share_a, share_b - low_b)
    low = share_a - share_b - np.sqrt(below[0] ** 2 - 2 * phi * below[0] * below[1] + below[1] ** 2)
    high = share_a - share_b + np.sqrt(above[0] ** 2 - 2 * phi * above[0] * above[1] + above[1] ** 2)
    return low, high


# Chances that only A, only B, and both are right: two models of 90 %, of 75 and 70 %, two that hardly differ.
WORLDS = [(0.05, 0.05, 0.85), (0.10, 0.05, 0.65), (0.02, 0.01, 0.95), (0.15, 0.05, 0.6), (0.01, 0.01, 0.9)]


@pytest.mark.parametrize("rows", [50, 200, 1000])
def test_paired_interval_covers_the_truth_closer_to_95_percent_than_newcombes(rows: int) -> None:
    generator = np.random.default_rng(20261122)
    tango, newcombe = [], []
    for only_a, only_b, both in WORLDS:
        shares = [only_a, only_b, both, 1 - only_a - only_b - both]
        a, b, right, _ = generator.multinomial(rows, shares, size=4000).T
        low, high = significance.paired_interval(a, b, rows)
        drop = only_a - only_b
        tango.append(float(((low <= -drop) & (-drop <= high)).mean()))
        low, high = newcombe_method_10(right, a, b, rows)
        newcombe.append(float(((low <= drop) & (drop <= high)).mean()))
    # 4,000 draws of a coverage of 95 % lie within 0.94..0.96 in 99.6 % of all cases; few rows are discrete.
    assert min(tango) >= 0.935
    assert max(abs(coverage - 0.95) for coverage in tango) <= max(
        abs(coverage - 0.95) for coverage in newcombe
    )


def test_unpaired_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(20261122)
    for rows, share_a, share_b in ((50, 0.9, 0.85), (300, 0.9, 0.9), (1000, 0.7, 0.75)):
        a, b = generator.binomial(rows, share_a, 4000), generator.binomial(rows, share_b, 4000)
        low, high = significance.unpaired_interval(a, rows, b, rows)
        assert 0.935 <= ((low <= share_b - share_a) & (share_b - share_a <= high)).mean() <= 0.985


@pytest.mark.parametrize(("rows", "limit"), [(8, 0.1), (20, 0.05), (40, 0.02)])
def test_paired_drop_test_keeps_its_level_exactly(rows: int, limit: float) -> None:
    """Over every table of so many rows: how likely it is to be refuted, at the largest drop that is allowed."""
    tables = [(a, b) for a in range(rows + 1) for b in range(rows + 1 - a)]
    p_values = np.array([significance.paired_drop_p(a, b, rows, limit) for a, b in tables])
    a, b = np.array(tables).T
    for rate in np.linspace(0, (1 - limit) / 2, 23):
        chances = stats.multinomial.pmf(
            np.stack([a, b, rows - a - b], axis=1), rows, [rate + limit, rate, max(0.0, 1 - 2 * rate - limit)]
        )
        for level in (0.001, 0.01, 0.05, 0.2):
            assert chances[p_values <= level].sum() <= level + 1e-9


def test_paired_drop_test_corrects_what_the_normal_distribution_gets_wrong() -> None:
    """19 of 1000 rows lost where 10 are allowed: a binomial test of 1 % says 0.7 %, the normal one 0.2 %."""
    exact = stats.binomtest(19, 1000, 0.01, alternative="greater").pvalue
    normal = stats.norm.sf(significance.paired_score(19, 0, 1000, 0.01))
    found = significance.paired_drop_p(19, 0, 1000, 0.01)
    assert exact * 0.9 <= found <= exact * 1.2
    assert normal < found / 2


def test_paired_drop_test_has_the_normal_one_as_its_limit() -> None:
    for only_a, only_b, rows in ((6100, 4700, 100_000), (12_000, 10_700, 100_000)):
        normal = float(stats.norm.sf(significance.paired_score(only_a, only_b, rows, 0.01)))
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
    for rows, fraction in ((100, 0.9), (1000, 0.95)):
        before, now = (
            generator.binomial(rows, fraction, 2000),
            generator.binomial(rows, fraction - limit, 2000),
        )
        refuted = [
            significance.unpaired_drop_p(int(a), rows, int(b), rows, limit) <= 0.05
            for a, b in zip(before, now, strict=True)
        ]
        assert np.mean(refuted) <= 0.06  # 5 % and two standard deviations of 2,000 draws


def test_unpaired_drop_test_uses_the_most_likely_accuracies() -> None:
    """The score of the cubic's root is the one of a numeric maximum of the likelihood."""

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
    assert result.attempted >= 8
    assert result.failed == 0
