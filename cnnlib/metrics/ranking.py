"""AUC (area under the ROC curve) and average precision of one class against the rest, from a ranking of the rows.

Rows of equal probability form a group. A ranking is the number of positives (rows of the class) and of negatives in
each group, from the most probable group to the least. With p and n, the positives and negatives of a group, P and N
those of all groups, and T and F those of the groups up to and including this one:

    AUC = sum over groups of p * (negatives after it + n / 2) / (P * N)     Mann and Whitney 1947; a tie counts half
    AP  = sum over groups of p / P * T / (T + F)                            as in scikit-learn, without interpolation
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnlib.metrics.formulas import Floats, ratio
from cnnlib.metrics.sums.histogram import ProbabilityHistogram

Counts = NDArray[np.int64]


class Ranking(NamedTuple):
    """Both metrics of one class with their standard errors and bounds on their errors.

    All fields are NaN without positives, and those of the AUC also without negatives. The errors come from binning;
    for sorted rows they are 0.
    """

    auc: float
    average_precision: float
    auc_standard_error: float
    average_precision_standard_error: float
    auc_error: float
    average_precision_error: float


_UNDEFINED = Ranking(*[np.nan] * 6)


def rank_rows(probabilities: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> Ranking:
    """Ranks rows exactly, by sorting them.

    Args:
        probabilities: float32 [rows], each row's probability of the class.
        is_positive: bool [rows], whether the row is of the class.

    >>> rank_rows(np.array([0.9, 0.8, 0.7], np.float32), np.array([True, False, True])).auc
    0.5
    """
    order = np.argsort(-probabilities, kind="stable")
    starts = _group_starts(probabilities[order])
    positives = np.add.reduceat(is_positive[order].astype(np.int64), starts)
    negatives = np.diff(np.append(starts, len(probabilities))) - positives
    return _rank(positives, negatives)


def rank_bins(histogram: ProbabilityHistogram, class_index: int) -> Ranking:
    """Ranks the bins of a histogram, with bounds on the error.

    Within a bin any order is possible. The AUC counts half of the bin's pairs, so its error is at most the sum of
    p * n / 2 over the bins, divided by P * N. With T and F those before the bin: the precision at a positive of the
    bin is at most (T + p) / (T + p + F), if all positives come before the bin's negatives. If they come after all
    negatives, the precision at the i-th positive is (T + i) / (T + i + F + n), and the sum of these is at least
    p - (F + n) log(1 + p / (T + F + n)). The average precision is the middle of both sums, its error half their
    distance.
    """
    filled = (histogram.positives[class_index] + histogram.negatives[class_index]) > 0
    p = histogram.positives[class_index][filled][::-1]
    n = histogram.negatives[class_index][filled][::-1]
    known = _rank(p, n)
    if not p.any():
        return known
    before_p, before_n = np.cumsum(p) - p, np.cumsum(n) - n
    auc_error = (p * (n / 2)).sum() / p.sum() / n.sum() if n.any() else np.nan
    # The sums below are over the positives: bins without one add nothing.
    p, n, before_p, before_n = (counts[p > 0] for counts in (p, n, before_p, before_n))
    through_n = before_n + n
    high = p * (before_p + p) / (before_p + p + before_n)
    # Where T + F + n is 0, so is the factor of the logarithm, which may then be anything finite.
    low = p - through_n * np.log1p(p / np.maximum(before_p + through_n, 1))
    low = np.maximum(low, p * (before_p + 1) / (before_p + 1 + through_n))
    return known._replace(
        average_precision=float((high + low).sum() / 2 / p.sum()),
        auc_error=float(auc_error),
        average_precision_error=float((high - low).sum() / 2 / p.sum()),
    )


def resample_ranking(
    probabilities: NDArray[np.float32], is_positive: NDArray[np.bool_], weights: NDArray[np.int32]
) -> tuple[Floats, Floats]:
    """Returns both metrics of one class for resampled rows.

    Args:
        probabilities: float32 [rows], each row's probability of the class.
        is_positive: bool [rows], whether the row is of the class.
        weights: int32 [resamples, rows], how often each resample holds each row.

    Returns:
        AUC and average precision, float64 [resamples]; NaN where they are not defined.
    """
    if not is_positive.any():
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    order = np.argsort(-probabilities, kind="stable")
    hit = is_positive[order]
    starts = _group_starts(probabilities[order])
    group = np.searchsorted(starts, np.flatnonzero(hit), side="right") - 1
    first = np.flatnonzero(np.diff(group, prepend=-1))  # the first positive of each group that has one
    ends = np.append(starts, len(probabilities))[group[first] + 1]
    counted = np.zeros((len(weights), len(probabilities) + 1), np.int32)
    np.cumsum(np.take(weights, order, axis=1), axis=1, out=counted[:, 1:])
    p = np.add.reduceat(np.take(weights, order[hit], axis=1), first, axis=1, dtype=np.int64)
    through_p = np.cumsum(p, axis=1)
    through = counted[:, ends].astype(np.int64)
    n = through - counted[:, starts[group[first]]] - p
    total_p = through_p[:, -1:]
    total_n = counted[:, -1:] - total_p
    after_n = total_n - (through - through_p)
    auc = ratio((p * (after_n + n / 2)).sum(axis=1), (total_p * total_n)[:, 0])
    precision = through_p / np.maximum(through, 1)
    return auc, ratio((p * precision).sum(axis=1), total_p[:, 0])


def _rank(p: Counts, n: Counts) -> Ranking:
    """Ranks groups, the most probable first: positives p and negatives n, int64 [groups]."""
    total_p, total_n = int(p.sum()), int(n.sum())
    if not total_p:
        return _UNDEFINED
    through_p, through_n = np.cumsum(p), np.cumsum(n)
    precision = through_p / (through_p + through_n)
    average_precision = float((p * precision).sum() / total_p)
    standard_error = _average_precision_standard_error(p, n, precision, average_precision)
    if not total_n:
        return _UNDEFINED._replace(
            average_precision=average_precision,
            average_precision_standard_error=standard_error,
            average_precision_error=0.0,
        )
    # The fraction of negatives after a positive of the group, and of positives before a negative of it; a tie counts
    # half. Their variances give that of the AUC (DeLong et al., Biometrics 44, 1988, who divide by P - 1 and N - 1).
    negatives_after = (total_n - through_n + n / 2) / total_n
    positives_before = (through_p - p / 2) / total_p
    auc = float((p * negatives_after).sum() / total_p)
    variance = (p * (negatives_after - auc) ** 2).sum() / total_p**2
    variance += (n * (positives_before - auc) ** 2).sum() / total_n**2
    return Ranking(auc, average_precision, float(np.sqrt(variance)), standard_error, 0.0, 0.0)


def _average_precision_standard_error(p: Counts, n: Counts, precision: Floats, average: float) -> float:
    """Returns the standard error of the average precision, by the delta method over the counts of the groups.

    For multinomial counts c and a metric that does not change when all counts are doubled, with the derivative g with
    respect to each count, the variance is the sum of c g^2 (B. Efron, "The Jackknife, the Bootstrap and Other
    Resampling Plans", SIAM 1982, chapter 6, where it is the infinitesimal jackknife).
    """
    total, through = p.sum(), np.cumsum(p + n)
    # One more row in a group changes the precision of this group and of all groups after it.
    by_positive = _sum_from_here(p * (1 - precision) / through)
    by_negative = -_sum_from_here(p * precision / through)
    variance = (p * ((precision - average + by_positive) / total) ** 2 + n * (by_negative / total) ** 2).sum()
    return float(np.sqrt(variance))


def _sum_from_here(values: Floats) -> Floats:
    """Returns, for every group, the sum over it and all groups after it."""
    sums: Floats = np.cumsum(values[::-1])[::-1]
    return sums


def _group_starts(decreasing: NDArray[np.float32]) -> Counts:
    """Returns the indexes at which groups of equal values begin."""
    return np.flatnonzero(np.diff(decreasing, prepend=np.float32(np.inf)))
