"""Counts in, p-values out: tests of the difference between two models, and of an accuracy against a minimum. No I/O.

Two models that scored the same rows are paired: only discordant rows count, which one model predicts right and the
other wrong (`only_a` and `only_b` of them). Where the rows differ or are not known, the models are unpaired: each
has its own count of right rows. Every test that a gate relies on is exact, or its p-value is never below that of an
exact test, also for few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cnnlib.metrics.intervals import tango_statistic

Floats = NDArray[np.float64]
_Alternative = Literal["less", "greater"]

# The probability that the true rate lies outside the interval that `_exact_drop_p` searches.
_NUISANCE_MISS = 1e-6
_NUISANCE_STEPS = 64
# For more discordant rows the normal distribution is as good, and much faster.
_MAX_EXACT_ROWS = 20_000


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test that both models have the same accuracy.

    Under the null hypothesis each discordant row is as likely to be A's as B's: a binomial test with 1/2.
    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12 (1947), 153-157; exact as in A. Agresti, "Categorical Data Analysis", 10.1.4.

    >>> mcnemar_p(1, 7)
    0.0703125
    """
    # Twice the smaller tail: with 1/2 both tails are equal. Not scipy.stats.binomtest, which takes 50 times as long.
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def mcnemar_drop_p(only_a: int, only_b: int) -> float:
    """Returns the one-sided p-value of McNemar's exact test that B's accuracy is at least A's.

    >>> mcnemar_drop_p(7, 1)
    0.03515625
    """
    return _binomial_p(only_b, only_a + only_b, 0.5, "less")


def paired_drop_p(only_a: int, only_b: int, rows: int, limit: float) -> float:
    """Returns the one-sided p-value that B's accuracy is at most `limit` below A's, on the same rows. Exact.

    For limit 0 it is McNemar's exact test. Above, it is the exact unconditional test of Tango's score statistic: the
    probability, under a drop of exactly `limit`, of a statistic at least as large as the observed one, maximised over
    the nuisance parameter, the rate at which only B is right. The maximum is taken over the 1 - 1e-6 confidence
    interval of that rate, and 1e-6 is added, which keeps the level. For more than 20,000 discordant rows, the normal
    approximation of the statistic is used.
    Sources: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998), 891-908; H.-M. Hsueh, J.-P. Liu, J. J. Chen,
    "Unconditional exact tests for equivalence or noninferiority for paired binary endpoints", Biometrics 57 (2001),
    478-483; R. L. Berger, D. D. Boos, "P values maximized over a confidence set for the nuisance parameter", Journal
    of the American Statistical Association 89 (1994), 1012-1016.

    Args:
        only_a: rows that only A predicts right.
        only_b: rows that only B predicts right.
        rows: all rows that both models scored.
        limit: the allowed drop in accuracy, in 0..1.

    >>> round(paired_drop_p(40, 10, 1000, limit=0.01), 3)
    0.003
    """
    if limit == 0:
        return mcnemar_drop_p(only_a, only_b)
    statistic = float(tango_statistic(only_a, only_b, rows, limit))
    if statistic <= 0:
        return 1.0
    if only_a + only_b > _MAX_EXACT_ROWS:
        return float(special.ndtr(-statistic))
    return _exact_drop_p(statistic, only_b, rows, limit)


def unpaired_p(correct_a: int, rows_a: int, correct_b: int, rows_b: int) -> float:
    """Returns the two-sided p-value of Fisher's exact test that two models on different rows are equally accurate.

    It is twice the smaller one-sided p-value, so that a difference is called one only if it is one in its direction:
    the other definition, the sum over all tables that are less probable, may reject where the interval of the
    difference holds 0. Sources: R. A. Fisher, "Statistical Methods for Research Workers", 5th edition (1934), section
    21.02; M. P. Fay, "Confidence intervals that match Fisher's exact or Blaker's exact tests", Biostatistics 11 (2010),
    373-374, which calls it central.

    >>> round(unpaired_p(8, 10, 1, 6), 4)
    0.049
    """
    below = _fisher_p(correct_a, rows_a, correct_b, rows_b, "less")
    above = _fisher_p(correct_a, rows_a, correct_b, rows_b, "greater")
    return min(1.0, 2 * min(below, above))


def unpaired_drop_p(correct_a: int, rows_a: int, correct_b: int, rows_b: int, limit: float) -> float:
    """Returns the one-sided p-value that B's accuracy is at most `limit` below A's, on different rows.

    For limit 0 it is Fisher's exact test. Above, it is the score test, but never less than Fisher's, as a drop of
    more than `limit` is a drop. Source: C. P. Farrington, G. Manning, "Test statistics and sample size formulae for
    comparative binomial trials with null hypothesis of non-zero risk difference or non-unity relative risk",
    Statistics in Medicine 9 (1990), 1447-1454.

    >>> round(unpaired_drop_p(90, 100, 70, 100, limit=0.1), 3)
    0.035
    """
    fisher = _fisher_p(correct_a, rows_a, correct_b, rows_b, "greater")
    if limit == 0:
        return fisher
    # Not statsmodels' test_proportions_2indep(method="score"): up to 0.15 its cubic has a wrong coefficient
    # (https://github.com/statsmodels/statsmodels/issues/10269).
    rate_a, rate_b = _rates_under_drop(correct_a, rows_a, correct_b, rows_b, limit)
    variance = rate_a * (1 - rate_a) / rows_a + rate_b * (1 - rate_b) / rows_b
    excess = correct_a / rows_a - correct_b / rows_b - limit
    if excess <= 0 or variance <= 0:
        return 1.0 if excess <= 0 else fisher
    return max(fisher, float(special.ndtr(-excess / np.sqrt(variance))))


def below_p(correct: int, rows: int, minimum: float) -> float:
    """Returns the one-sided p-value of the exact binomial test that the true accuracy is at least `minimum`.

    >>> below_p(1, 3, 0.5)
    0.5
    """
    return _binomial_p(correct, rows, minimum, "less")


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values, adjusted for the number of tests, in the same order.

    Rejecting every hypothesis whose adjusted p-value is at most 5 % rejects a true one at most 5 % of the time,
    however the tests depend on one another. Source: S. Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6 (1979), 65-70.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    # Not statsmodels' multipletests: statsmodels takes 1.5 s to load, for three lines.
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _binomial_p(correct: int, rows: int, accuracy: float, alternative: _Alternative) -> float:
    """Returns the p-value of the exact binomial test that the true accuracy is `accuracy`; 1 without rows."""
    from scipy import stats  # here: it takes a second to load

    if not rows:
        return 1.0
    return float(stats.binomtest(correct, rows, accuracy, alternative=alternative).pvalue)


def _fisher_p(correct_a: int, rows_a: int, correct_b: int, rows_b: int, alternative: _Alternative) -> float:
    """Returns the p-value of Fisher's exact test; the alternative "greater" is a higher accuracy of A."""
    from scipy import stats  # here: it takes a second to load

    table = np.array([[correct_a, rows_a - correct_a], [correct_b, rows_b - correct_b]])
    return float(stats.fisher_exact(table, alternative=alternative).pvalue)


def _exact_drop_p(statistic: float, only_b: int, rows: int, limit: float) -> float:
    """Returns the largest probability, over the rates at which only B is right, of a statistic of at least `statistic`.

    Args:
        statistic: the observed value of Tango's statistic, above 0.
        only_b: rows that only B predicts right.
        rows: all rows that both models scored.
        limit: the true drop in accuracy.
    """
    # The ends of the Clopper-Pearson interval of the rate at which only B is right.
    tail = _NUISANCE_MISS / 2
    lowest = float(special.betaincinv(only_b, rows - only_b + 1, tail)) if only_b else 0.0
    highest = float(special.betainccinv(only_b + 1, rows - only_b, tail)) if only_b < rows else 1.0
    largest = (1 - limit) / 2  # above, the rates of only A, only B and neither would sum to more than 1
    rates = np.linspace(min(lowest, largest), min(highest, largest), _NUISANCE_STEPS)
    # Values of b further than 8 standard deviations from their mean have no weight.
    spread = 8 * np.sqrt(rows * rates * (1 - rates)) + 40
    first = max(0, int((rows * rates - spread).min()))
    last = min(rows, int(np.ceil((rows * rates + spread).max())))
    b = np.arange(first, last + 1, dtype=np.float64)
    least_a = _least_extreme(statistic, b, rows, limit)
    # Not scipy.stats.binom: with its pmf and sf the test takes twice as long, for few rows six times.
    log_choose = special.gammaln(rows + 1) - special.gammaln(b + 1) - special.gammaln(rows - b + 1)
    largest_p = 0.0
    for rate in rates:
        probability_of_b = np.exp(log_choose + special.xlogy(b, rate) + special.xlog1py(rows - b, -rate))
        rate_of_a = min(1.0, (rate + limit) / (1 - rate))  # among the rows where not only B is right
        tail_of_a = np.where(
            least_a <= rows - b,
            special.betainc(least_a, np.maximum(rows - b - least_a + 1, 1), rate_of_a),
            0.0,
        )
        largest_p = max(largest_p, float((probability_of_b * tail_of_a).sum()))
    return min(1.0, largest_p + _NUISANCE_MISS)


def _least_extreme(statistic: float, b: Floats, rows: int, limit: float) -> Floats:
    """Returns the least `only_a` for each `only_b` in `b` whose statistic is at least `statistic`.

    Where no `only_a` reaches it, the value is one more than possible.
    """
    low, high = np.zeros_like(b), rows - b + 1
    while (low < high).any():
        middle = np.floor((low + high) / 2)
        reached = tango_statistic(middle, b, rows, limit) >= statistic * (1 - 1e-12)
        low, high = np.where(reached | (low >= high), low, middle + 1), np.where(reached, middle, high)
    return high


def _rates_under_drop(
    correct_a: int, rows_a: int, correct_b: int, rows_b: int, drop: float
) -> tuple[float, float]:
    """Returns the maximum likelihood estimates of the accuracies of A and B that are `drop` apart.

    Source: Farrington and Manning (1990), appendix: the root of the likelihood's cubic, in closed form.
    """
    accuracy_a, accuracy_b, ratio = correct_a / rows_a, correct_b / rows_b, rows_b / rows_a
    cubic = 1 + ratio
    square = -(1 + ratio + accuracy_a + ratio * accuracy_b + drop * (ratio + 2))
    linear = drop * drop + drop * (2 * accuracy_a + ratio + 1) + accuracy_a + ratio * accuracy_b
    constant = -accuracy_a * drop * (1 + drop)
    v = square**3 / (3 * cubic) ** 3 - square * linear / (6 * cubic**2) + constant / (2 * cubic)
    u = np.copysign(np.sqrt(max(square**2 / (3 * cubic) ** 2 - linear / (3 * cubic), 0.0)), v)
    angle = (np.pi + np.arccos(np.clip(v / u**3, -1.0, 1.0) if u else 1.0)) / 3
    rate_a = float(np.clip(2 * u * np.cos(angle) - square / (3 * cubic), drop, 1.0))
    return rate_a, rate_a - drop
