"""Area under the ROC curve and average precision of one class against the rest, out of its ranking of the rows.

Rows of equal probability are a group; what counts is how many positives (rows of the class) and negatives each
group has, from the most probable group to the least. With T and F, positives and negatives so far, this one's too:

    AUC = sum over groups of p * (negatives after it + n / 2) / (P * N)     Mann and Whitney 1947; a tie is a half
    AP  = sum over groups of p / P * T / (T + F)                            as scikit-learn: no interpolation
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnlib.metrics.sums.histogram import ProbabilityHistogram

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class Ranking(NamedTuple):
    """Both figures of one class, NaN where a side has no row; their standard errors; by how much they may be off."""

    auc: float
    average_precision: float
    auc_deviation: float
    average_precision_deviation: float
    auc_error: float
    average_precision_error: float


_UNDEFINED = Ranking(*[np.nan] * 6)


def rank_rows(scores: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> Ranking:
    """Ranks rows by sorting them: exact.

    Args:
        scores: float32 [rows], each row's probability of the class.
        is_positive: bool [rows], whether the row truly is of it.

    >>> rank_rows(np.array([0.9, 0.8, 0.7], np.float32), np.array([True, False, True])).auc
    0.5
    """
    order = np.argsort(-scores, kind="stable")
    starts = _group_starts(scores[order])
    positives = np.add.reduceat(is_positive[order].astype(np.int64), starts)
    negatives = np.diff(np.append(starts, len(scores))) - positives
    return _rank(positives, negatives)


def rank_bins(histogram: ProbabilityHistogram, class_index: int) -> Ranking:
    """Ranks the bins of a histogram, with bounds on the error.

    Within a bin any order is possible. Half of its pairs count for the AUC, so it may be off by as many: the sum
    of p * n / 2 over the bins, over P * N. The precision at a positive of a bin is at most (T + p) / (T + p + F),
    all positives together before the bin's negatives; the i-th one's is at least (T + i) / (T + i + F + n), after
    all negatives, whose sum is at least p - (F + n) log(1 + p / (T + F + n)), T and F counted before the bin. The
    average precision is the middle of the two sums, and its error half their distance.
    """
    filled = (histogram.positives[class_index] + histogram.negatives[class_index]) > 0
    p = histogram.positives[class_index][filled][::-1]
    n = histogram.negatives[class_index][filled][::-1]
    known = _rank(p, n)
    if not p.any():
        return known
    before_p, before_n = np.cumsum(p) - p, np.cumsum(n) - n
    auc_error = (p * (n / 2)).sum() / p.sum() / n.sum() if n.any() else np.nan
    # What follows adds up over the positives: a bin without one adds nothing.
    p, n, before_p, before_n = (counts[p > 0] for counts in (p, n, before_p, before_n))
    through_n = before_n + n
    high = p * (before_p + p) / (before_p + p + before_n)
    # Where T + F + n is 0 there is no negative yet, and the logarithm's factor is 0.
    low = p - through_n * np.log1p(p / np.maximum(before_p + through_n, 1))
    low = np.maximum(low, p * (before_p + 1) / (before_p + 1 + through_n))
    return known._replace(
        average_precision=float((high + low).sum() / 2 / p.sum()),
        auc_error=float(auc_error),
        average_precision_error=float((high - low).sum() / 2 / p.sum()),
    )


def resample_ranking(
    scores: NDArray[np.float32], is_positive: NDArray[np.bool_], weights: NDArray[np.int32]
) -> tuple[Floats, Floats]:
    """Both figures of a class as they would be with some rows counted several times, others not at all.

    Args:
        weights: int32 [resamples, rows], how often each row counts.

    Returns:
        AUC and average precision, float64 [resamples]; NaN where a side has no row left.
    """
    order = np.argsort(-scores, kind="stable")
    hit = is_positive[order]
    if not hit.any():
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    starts = _group_starts(scores[order])
    group = np.searchsorted(starts, np.flatnonzero(hit), side="right") - 1
    first = np.flatnonzero(np.diff(group, prepend=-1))  # the first positive of each group that has one
    ends = np.append(starts, len(scores))[group[first] + 1]
    counted = np.zeros((len(weights), len(scores) + 1), np.int32)
    np.cumsum(np.take(weights, order, axis=1), axis=1, out=counted[:, 1:])
    p = np.add.reduceat(np.take(weights, order[hit], axis=1), first, axis=1, dtype=np.int64)
    through_p = np.cumsum(p, axis=1)
    through = counted[:, ends].astype(np.int64)
    n = through - counted[:, starts[group[first]]] - p
    total_p = through_p[:, -1:]
    total_n = counted[:, -1:] - total_p
    after_n = total_n - (through - through_p)
    auc = _ratio((p * (after_n + n / 2)).sum(axis=1), (total_p * total_n)[:, 0])
    precision = through_p / np.maximum(through, 1)
    return auc, _ratio((p * precision).sum(axis=1), total_p[:, 0])


def _rank(p: Counts, n: Counts) -> Ranking:
    """Ranks groups: positives and negatives, int64 [groups], the most probable group first."""
    total_p, total_n = int(p.sum()), int(n.sum())
    if not total_p:
        return _UNDEFINED
    through_p, through_n = np.cumsum(p), np.cumsum(n)
    precision = through_p / (through_p + through_n)
    average_precision = float((p * precision).sum() / total_p)
    spread = _average_precision_deviation(p, n, precision, average_precision)
    if not total_n:
        return _UNDEFINED._replace(
            average_precision=average_precision,
            average_precision_deviation=spread,
            average_precision_error=0.0,
        )
    # Of a positive of the group: the share of negatives it comes before. Of a negative: of positives after.
    win_p = (total_n - through_n + n / 2) / total_n
    win_n = (through_p - p / 2) / total_p
    auc = float((p * win_p).sum() / total_p)
    variance = (p * (win_p - auc) ** 2).sum() / total_p**2 + (n * (win_n - auc) ** 2).sum() / total_n**2
    return Ranking(auc, average_precision, float(np.sqrt(variance)), spread, 0.0, 0.0)


def _average_precision_deviation(p: Counts, n: Counts, precision: Floats, average: float) -> float:
    """The standard error of the average precision: the delta method over the counts of the groups.

    Counts c of a multinomial, and a figure that does not change when all of them are doubled, with the slope g in
    each: the variance is the sum of c g^2 (B. Efron, "The Jackknife, the Bootstrap and Other Resampling Plans",
    SIAM 1982, chapter 6, where it is the infinitesimal jackknife).
    """
    total, through = p.sum(), np.cumsum(p + n)
    # One more row in a group changes the precision of this group and of all that follow.
    by_positive = _sum_from(p * (1 - precision) / through)
    by_negative = -_sum_from(p * precision / through)
    variance = (p * ((precision - average + by_positive) / total) ** 2 + n * (by_negative / total) ** 2).sum()
    return float(np.sqrt(variance))


def _sum_from(values: Floats) -> Floats:
    """Of every group: the sum over it and all that follow."""
    sums: Floats = np.cumsum(values[::-1])[::-1]
    return sums


def _group_starts(falling: NDArray[np.float32]) -> Counts:
    """Where each group of equal values begins."""
    return np.flatnonzero(np.diff(falling, prepend=np.float32(np.inf)))


def _ratio(above: Floats | Counts, below: Floats | Counts) -> Floats:
    """A quotient, NaN over 0."""
    quotient: Floats = np.divide(above, np.where(below > 0, below, np.nan))
    return quotient
