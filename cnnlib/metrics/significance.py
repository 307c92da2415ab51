"""Counts in, p-values and intervals out: how far a difference between two models, or to a limit, may be chance.

Two models that scored the same rows are paired: only the rows count that one has right and the other wrong,
`only_a` and `only_b` of them. Where the rows differ, or are not known, each model's own count is all there is.
The tests that a gate relies on are exact or never below an exact one, also for few rows. NumPy and SciPy only,
no I/O; `scipy.special` and not `scipy.stats`, which takes a second to load.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cnnlib.metrics.intervals import paired_score

Floats = NDArray[np.float64]

# What the p-value of `paired_drop_p` gives away to look only at likely values of the rate it does not know.
_NUISANCE_MISS = 1e-6
_NUISANCE_STEPS = 64
# Above so many rows that differ, the normal distribution is as good, and much faster.
_EXACT_UP_TO = 20_000


def mcnemar_p(only_a: int, only_b: int) -> float:
    """The two-sided p-value that both models are as often right: McNemar's exact test.

    Of the rows that only one of them has right, each is as likely to be A's as B's: a binomial test with 1/2.
    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12 (1947), 153-157; exact as in A. Agresti, "Categorical Data Analysis", 10.1.4.

    >>> mcnemar_p(1, 7)
    0.0703125
    """
    return min(1.0, 2 * _binomial_at_most(min(only_a, only_b), only_a + only_b, 0.5))


def mcnemar_drop_p(only_a: int, only_b: int) -> float:
    """The one-sided p-value that B is right at least as often as A: McNemar's exact test.

    >>> mcnemar_drop_p(7, 1)
    0.03515625
    """
    return _binomial_at_most(only_b, only_a + only_b, 0.5)


def paired_drop_p(only_a: int, only_b: int, rows: int, limit: float) -> float:
    """The one-sided p-value that B's accuracy lies at most `limit` below A's, on the same rows. Exact.

    For limit 0 it is McNemar's exact test. Above, Tango's score statistic is put into an exact test: the
    probability, under a drop of just `limit`, of a statistic at least as large as the one observed, maximised over
    the rate at which only B is right. The maximum is taken over the rates that its confidence interval of 1 - 1e-6
    holds, and 1e-6 is added, which keeps the level. Where more than 20,000 rows differ, the statistic's limiting
    normal distribution is used.
    Sources: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998), 891-908; H.-M. Hsueh, J.-P. Liu, J. J. Chen,
    "Unconditional exact tests for equivalence or noninferiority for paired binary endpoints", Biometrics 57 (2001),
    478-483; R. L. Berger, D. D. Boos, "P values maximized over a confidence set for the nuisance parameter", Journal
    of the American Statistical Association 89 (1994), 1012-1016.

    Args:
        only_a: rows that only A has right.
        only_b: rows that only B has right.
        rows: all rows that both scored.
        limit: the drop that is allowed, in 0..1.

    >>> round(paired_drop_p(40, 10, 1000, limit=0.01), 3)
    0.003
    """
    if limit == 0:
        return mcnemar_drop_p(only_a, only_b)
    score = float(paired_score(only_a, only_b, rows, limit))
    if score <= 0:
        return 1.0
    if only_a + only_b > _EXACT_UP_TO:
        return float(special.ndtr(-score))
    return _exact_drop_p(score, only_b, rows, limit)


def unpaired_p(correct_a: int, rows_a: int, correct_b: int, rows_b: int) -> float:
    """The two-sided p-value that two models on different rows are as often right: Fisher's exact test.

    Source: R. A. Fisher, "Statistical Methods for Research Workers", 5th edition (1934), section 21.02.

    >>> round(unpaired_p(8, 10, 1, 6), 4)
    0.035
    """
    least, weights = _hypergeometric(correct_a, rows_a, correct_b, rows_b)
    observed = weights[correct_a - least]
    # As likely as the observed one, but for rounding.
    return min(1.0, float(weights[weights <= observed * (1 + 1e-7)].sum()))


def unpaired_drop_p(correct_a: int, rows_a: int, correct_b: int, rows_b: int, limit: float) -> float:
    """The one-sided p-value that B's accuracy lies at most `limit` below A's, on different rows.

    For limit 0 it is Fisher's exact test. Above, it is the score test, but never less than Fisher's, as a drop of
    more than `limit` is a drop. Source: C. P. Farrington, G. Manning, "Test statistics and sample size formulae for
    comparative binomial trials with null hypothesis of non-zero risk difference or non-unity relative risk",
    Statistics in Medicine 9 (1990), 1447-1454.

    >>> round(unpaired_drop_p(90, 100, 70, 100, limit=0.1), 3)
    0.035
    """
    least, weights = _hypergeometric(correct_a, rows_a, correct_b, rows_b)
    fisher = min(1.0, float(weights[correct_a - least :].sum()))
    if limit == 0:
        return fisher
    rate_a, rate_b = _rates_under_drop(correct_a, rows_a, correct_b, rows_b, limit)
    variance = rate_a * (1 - rate_a) / rows_a + rate_b * (1 - rate_b) / rows_b
    excess = correct_a / rows_a - correct_b / rows_b - limit
    if excess <= 0 or variance <= 0:
        return 1.0 if excess <= 0 else fisher
    return max(fisher, float(special.ndtr(-excess / np.sqrt(variance))))


def below_p(correct: int, rows: int, minimum: float) -> float:
    """The one-sided p-value that the true accuracy is at least `minimum`: the exact binomial test.

    >>> below_p(1, 3, 0.5)
    0.5
    """
    return _binomial_at_most(correct, rows, minimum)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number, in their order.

    Refusing what has an adjusted p-value of at most 5 % refuses anything that is true at most 5 % of the time,
    however the tests depend on one another. Source: S. Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6 (1979), 65-70.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _binomial_at_most(hits: int, tries: int, rate: float) -> float:
    """P(X <= hits) of a binomial variable; 1 without tries."""
    return 1.0 if hits >= tries else float(special.betaincc(hits + 1, tries - hits, rate))


def _exact_drop_p(score: float, only_b: int, rows: int, limit: float) -> float:
    """The maximal probability of a statistic of at least `score`, where the true drop is `limit`."""
    miss = _NUISANCE_MISS / 2
    lowest = float(special.betaincinv(only_b, rows - only_b + 1, miss)) if only_b else 0.0
    highest = float(special.betainccinv(only_b + 1, rows - only_b, miss)) if only_b < rows else 1.0
    largest = (1 - limit) / 2  # or the three rates would add up to more than 1
    rates = np.linspace(min(lowest, largest), min(highest, largest), _NUISANCE_STEPS)
    spread = 8 * np.sqrt(rows * rates * (1 - rates)) + 40
    first = max(0, int((rows * rates - spread).min()))
    last = min(rows, int(np.ceil((rows * rates + spread).max())))
    b = np.arange(first, last + 1, dtype=np.float64)
    least_a = _least_extreme(score, b, rows, limit)
    log_choose = special.gammaln(rows + 1) - special.gammaln(b + 1) - special.gammaln(rows - b + 1)
    worst = 0.0
    for rate in rates:
        chance_of_b = np.exp(log_choose + special.xlogy(b, rate) + special.xlog1py(rows - b, -rate))
        rate_of_a = min(1.0, (rate + limit) / (1 - rate))
        tail = np.where(
            least_a <= rows - b,
            special.betainc(least_a, np.maximum(rows - b - least_a + 1, 1), rate_of_a),
            0.0,
        )
        worst = max(worst, float((chance_of_b * tail).sum()))
    return min(1.0, worst + _NUISANCE_MISS)


def _least_extreme(score: float, b: Floats, rows: int, limit: float) -> Floats:
    """For each number of rows that only B has right, with how many of A's the statistic reaches `score`.

    One more than there can be where it never does.
    """
    low, high = np.zeros_like(b), rows - b + 1
    while (low < high).any():
        middle = np.floor((low + high) / 2)
        reached = paired_score(middle, b, rows, limit) >= score * (1 - 1e-12)
        low, high = np.where(reached | (low >= high), low, middle + 1), np.where(reached, middle, high)
    return high


def _hypergeometric(correct_a: int, rows_a: int, correct_b: int, rows_b: int) -> tuple[int, Floats]:
    """How likely each number of A's right rows is, given how many there are of both: the least, and all from it."""
    correct, least = correct_a + correct_b, max(0, correct_a + correct_b - rows_b)
    of_a = np.arange(least, min(rows_a, correct) + 1, dtype=np.float64)
    log = -(
        special.gammaln(of_a + 1)
        + special.gammaln(rows_a - of_a + 1)
        + special.gammaln(correct - of_a + 1)
        + special.gammaln(rows_b - correct + of_a + 1)
    )
    weights: Floats = np.exp(log - log.max())
    return least, weights / weights.sum()


def _rates_under_drop(
    correct_a: int, rows_a: int, correct_b: int, rows_b: int, drop: float
) -> tuple[float, float]:
    """The most likely accuracies of A and B that lie `drop` apart.

    Source: Farrington and Manning (1990), appendix: the root of the likelihood's cubic, in closed form.
    """
    share_a, share_b, ratio = correct_a / rows_a, correct_b / rows_b, rows_b / rows_a
    cubic = 1 + ratio
    square = -(1 + ratio + share_a + ratio * share_b + drop * (ratio + 2))
    linear = drop * drop + drop * (2 * share_a + ratio + 1) + share_a + ratio * share_b
    constant = -share_a * drop * (1 + drop)
    v = square**3 / (3 * cubic) ** 3 - square * linear / (6 * cubic**2) + constant / (2 * cubic)
    u = np.copysign(np.sqrt(max(square**2 / (3 * cubic) ** 2 - linear / (3 * cubic), 0.0)), v)
    angle = (np.pi + np.arccos(np.clip(v / u**3, -1.0, 1.0) if u else 1.0)) / 3
    rate_a = float(np.clip(2 * u * np.cos(angle) - square / (3 * cubic), drop, 1.0))
    return rate_a, rate_a - drop
