"""95 % intervals of proportions (fractions of rows) and of differences between two of them. NumPy only, no I/O.

All functions take arrays: a report has thousands of proportions. SciPy's `binomtest(...).proportion_ci` takes one at
a time, and statsmodels, whose Wilson and Newcombe intervals are these, takes 1.5 s to load.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution, for two-sided intervals of 95 %."""
_BISECTIONS = 54  # to the last digit of a float64 in -1..1


class Proportion(NamedTuple):
    """A fraction of rows with its 95 % Wilson interval, each in 0..1; all three are None without rows."""

    fraction: float | None
    low: float | None
    high: float | None


def wilson_interval(correct: ArrayLike, total: ArrayLike, z: float = Z_95) -> tuple[Floats, Floats]:
    """Returns the Wilson interval of the proportion `correct` / `total`.

    Unlike p ± z·sqrt(p(1-p)/n), it stays within 0..1, and has a width above 0 even if all rows, or none, are correct.
    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of
    the American Statistical Association 22 (1927), 209-212.

    Args:
        correct: integers of any shape, in 0..total.
        total: integers of the same shape.
        z: half-width in standard normal deviations; the default gives a 95 % interval.

    Returns:
        Lower and upper ends in 0..1, NaN where total is 0.

    >>> low, high = wilson_interval(9137, 10000)
    >>> round(float(low), 4), round(float(high), 4)
    (0.908, 0.919)
    """
    hits, tries = np.asarray(correct, np.float64), np.asarray(total, np.float64)
    n = np.where(tries > 0, tries, np.nan)
    p = hits / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # These ends are known exactly; the formula leaves a rounding error of 1e-17 in place of 0.
    low = np.where(hits == 0, 0.0 * n, np.maximum(center - half_width, 0.0))
    high = np.where(hits == tries, 1.0 + 0.0 * n, np.minimum(center + half_width, 1.0))
    return low, high


def proportion(correct: int, total: int) -> Proportion:
    """Returns a fraction of rows with its 95 % interval.

    >>> proportion(0, 0)
    Proportion(fraction=None, low=None, high=None)
    """
    if total == 0:
        return Proportion(None, None, None)
    low, high = wilson_interval(correct, total)
    return Proportion(correct / total, float(low), float(high))


def paired_interval(
    only_a: ArrayLike, only_b: ArrayLike, rows: ArrayLike, z: float = Z_95
) -> tuple[Floats, Floats]:
    """Returns the 95 % interval of B's accuracy minus A's on the same rows: Tango's score interval.

    It holds the differences that a two-sided score test at 5 % does not reject. Its coverage is closer to 95 % than
    that of Newcombe's method 10 (R. G. Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17 (1998), 2635-2650), as a test measures, and its
    width is above 0 even if both models are right on the same rows.

    Args:
        only_a: rows that only A predicts right: integers of any shape.
        only_b: rows that only B predicts right.
        rows: all rows that both models scored.
        z: half-width in standard normal deviations; the default gives a 95 % interval.

    Returns:
        Lower and upper ends in -1..1, NaN without rows.

    >>> low, high = paired_interval(7, 1, 21)
    >>> round(float(low), 3), round(float(high), 3)
    (-0.517, -0.026)
    """
    a, b, n = (np.asarray(value, np.float64) for value in (only_a, only_b, rows))
    nan_without_rows = np.where(n > 0, 0.0, np.nan)
    largest_drop, smallest_drop = _drops_at(a, b, n, np.array([-z, z]))
    return -largest_drop + nan_without_rows, -smallest_drop + nan_without_rows


def tango_statistic(only_a: ArrayLike, only_b: ArrayLike, rows: ArrayLike, drop: ArrayLike) -> Floats:
    """Returns Tango's score statistic under a true drop of `drop` from A to B: standard normal for many rows.

    It decreases as `drop` grows. Source: T. Tango, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine 17 (1998), 891-908, equation 5; the root of its
    quadratic is the maximum likelihood estimate of the rate at which only B is right.

    Args:
        only_a: rows that only A predicts right: integers of any shape.
        only_b: rows that only B predicts right.
        rows: all rows that both models scored.
        drop: accuracy of A minus that of B, in -1..1.
    """
    a, b, n, d = (np.asarray(value, np.float64) for value in (only_a, only_b, rows, drop))
    linear, constant = (2 * n - a + b) * d - a - b, -b * d * (1 - d)
    root = np.sqrt(np.maximum(linear * linear - 8 * n * constant, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # Two forms of the same root: each is inexact where the other is exact.
        rate = np.where(linear > 0, -2 * constant / (linear + root), (root - linear) / (4 * n))
        variance = n * (2 * np.nan_to_num(rate) + d * (1 - d))
        excess = a - b - n * d
        statistic: Floats = np.where(
            variance > 0, excess / np.sqrt(variance), np.where(excess == 0, 0.0, np.sign(excess) * np.inf)
        )
    return statistic


def unpaired_interval(
    correct_a: ArrayLike, rows_a: ArrayLike, correct_b: ArrayLike, rows_b: ArrayLike, z: float = Z_95
) -> tuple[Floats, Floats]:
    """Returns the 95 % interval of B's accuracy minus A's on different rows: Newcombe's hybrid score interval.

    Source: R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of
    eleven methods", Statistics in Medicine 17 (1998), 873-890, method 10.

    Args:
        z: half-width in standard normal deviations; the default gives a 95 % interval.

    Returns:
        Lower and upper ends in -1..1, NaN where either model has no rows.

    >>> low, high = unpaired_interval(48, 80, 56, 70)
    >>> round(float(low), 4), round(float(high), 4)
    (0.0524, 0.3339)
    """
    (low_a, high_a), (low_b, high_b) = (
        wilson_interval(correct_a, rows_a, z),
        wilson_interval(correct_b, rows_b, z),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy_a, accuracy_b = np.true_divide(correct_a, rows_a), np.true_divide(correct_b, rows_b)
    difference = accuracy_b - accuracy_a
    low: Floats = difference - np.hypot(accuracy_b - low_b, high_a - accuracy_a)
    high: Floats = difference + np.hypot(high_b - accuracy_b, accuracy_a - low_a)
    return low, high


def match_interval(
    low: ArrayLike, high: ArrayLike, p_value: ArrayLike, level: float = 0.05
) -> tuple[Floats, Floats]:
    """Returns an interval of a difference, widened so that it holds 0 wherever a test of 0 does not reject at `level`.

    An exact test of no difference rejects less than the score test whose interval this is: for 5 rows that only A has
    right, McNemar's exact p-value is 6 %, but Tango's interval leaves out 0. A difference of d between 0 and the
    observed one is at most as extreme as 0, so a test that does not reject 0 does not reject d. With this, interval and
    p-value are of one test: the interval holds 0 if and only if p_value > level. An exact test at 5 % that rejects 0
    where the 95 % interval holds it is not known: `test_differences.py` searches.
    Source: M. P. Fay, "Two-sided exact tests and matching confidence intervals for discrete data", The R Journal 2
    (2010), 53-58.

    Args:
        low: lower end.
        high: upper end.
        p_value: two-sided, that there is no difference. It may be adjusted for a number of tests.
        level: the level of significance of the test.

    >>> low, high = match_interval(0.001, 0.012, 0.0625)
    >>> float(low), float(high)
    (0.0, 0.012)
    """
    ends, keeps_zero = (
        (np.asarray(low, np.float64), np.asarray(high, np.float64)),
        np.asarray(p_value) > level,
    )
    return (
        np.where(keeps_zero, np.minimum(ends[0], 0.0), ends[0]),
        np.where(keeps_zero, np.maximum(ends[1], 0.0), ends[1]),
    )


def _drops_at(a: Floats, b: Floats, n: Floats, statistics: Floats) -> Floats:
    """Returns the drops at which Tango's statistic has each of the given values: [values, ...]."""
    shape = np.broadcast_shapes(a.shape, b.shape, n.shape)
    wanted = statistics.reshape(-1, *[1] * len(shape))
    low, high = (np.full((len(statistics), *shape), end) for end in (-1.0, 1.0))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_above = tango_statistic(a, b, n, middle) > wanted
        low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
    return high
