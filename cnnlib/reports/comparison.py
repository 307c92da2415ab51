"""Two reports in; the differences in accuracy out, with intervals, p-values, the rows that changed, and a sentence.

The rows are paired where both reports stored predictions of the same rows. Otherwise the counts of the two reports are
compared, a test of less power.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib.metrics import significance
from cnnlib.metrics.intervals import Proportion, match_interval, proportion
from cnnlib.reports.difference_tests import Counts, DifferenceTest, measure_paired, measure_unpaired
from cnnlib.reports.pairing import PairedRows, Unpaired, pair_rows
from cnnlib.reports.read import Report

LEVEL = 0.05
"""The level of significance: differences with a p-value of at most this are called distinguishable."""
_MAX_IDS = 100
_MAX_NAMED_CLASSES = 3  # of those that got worse, and of those that got better, in the sentence


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Rows that one model has right and the other wrong.

    Attributes:
        total: number of such rows.
        ids: the lowest ids, ascending, at most 100.
    """

    total: int
    ids: tuple[int, ...]

    def to_row(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {"total": self.total, "ids": list(self.ids)}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference in accuracy between report A and report B, for one class or for all rows.

    Attributes:
        name: the class, or "all".
        a: accuracy in A; its numbers are None where A has no such rows.
        b: accuracy in B, likewise.
        points: b - a in percentage points. It and the interval and p-value are None where A or B has no such rows.
        low: lower end of the 95 % interval of the difference, in percentage points. The interval holds 0 exactly if the
            difference is not distinguishable.
        high: upper end.
        p_value: two-sided, for the hypothesis that both accuracies are equal; for a class, adjusted by Holm over the
            classes.
        lost: rows that A has right and B wrong; None where the rows are not paired.
        won: rows that B has right and A wrong; None where the rows are not paired.
    """

    name: str
    a: Proportion
    b: Proportion
    points: float | None
    low: float | None
    high: float | None
    p_value: float | None
    lost: Flips | None
    won: Flips | None

    @property
    def is_distinguishable(self) -> bool:
        """True if chance alone gives such a difference at most 5 % of the time."""
        return self.p_value is not None and self.p_value <= LEVEL

    def to_row(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {
            "class_name": self.name,
            "accuracy_a": self.a.fraction,
            "accuracy_b": self.b.fraction,
            "points": self.points,
            "points_low": self.low,
            "points_high": self.high,
            "p_value": self.p_value,
            "distinguishable": self.is_distinguishable,
            "right_to_wrong": None if self.lost is None else self.lost.to_row(),
            "wrong_to_right": None if self.won is None else self.won.to_row(),
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Report B compared with report A.

    Attributes:
        classes: the classes of A in their order, then those that only B has.
        unpaired_because: why the rows are not paired; None where they are.
    """

    overall: Difference
    classes: tuple[Difference, ...]
    unpaired_because: str | None

    @property
    def words(self) -> str:
        """The comparison as a sentence.

        It covers all rows, the classes with a distinguishable difference, and the class that lost most in any case.
        """
        known = sorted((each for each in self.classes if each.points), key=lambda each: each.points or 0.0)
        worse = [each for each in known if (each.points or 0.0) < 0]
        fell = [each for each in worse if each.is_distinguishable or each is worse[0]]
        rose = [each for each in reversed(known) if each not in worse and each.is_distinguishable]
        clauses = [_describe("B", self.overall, "than A ")]
        for changed, how in ((fell, "worse"), (rose, "better")):
            clauses += [_describe(each.name, each, "") for each in changed[:_MAX_NAMED_CLASSES]]
            if len(changed) > _MAX_NAMED_CLASSES:
                clauses.append(f"{len(changed) - _MAX_NAMED_CLASSES} more classes are {how}")
        return "; ".join(clauses) + "."

    def to_row(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {
            "words": self.words,
            "unpaired_because": self.unpaired_because,
            "overall": self.overall.to_row(),
            "classes": [difference.to_row() for difference in self.classes],
        }


def compare_reports(reports_uri: str, a: Report, b: Report) -> Comparison:
    """Compares two reports, row by row where their rows can be paired.

    Args:
        reports_uri: the folder of all reports.
    """
    paired = pair_rows(reports_uri, (a.record, b.record))
    if isinstance(paired, Unpaired):
        return _compare_counts(a, b, paired.reason)
    return compare_rows(paired, [row["class_name"] for row in a.classes])


def compare_rows(paired: PairedRows, class_names: Sequence[str]) -> Comparison:
    """Compares two models on the rows that both scored."""
    right_a, right_b = paired.right
    by_class = np.argsort(paired.labels, kind="stable")
    bounds = np.searchsorted(paired.labels[by_class], np.arange(len(class_names) + 1))
    classes = []
    for index, name in enumerate(class_names):
        rows = by_class[bounds[index] : bounds[index + 1]]
        classes.append(_paired_difference(name, paired.ids[rows], right_a[rows], right_b[rows]))
    overall = _paired_difference("all", paired.ids, right_a, right_b)
    return Comparison(overall=overall, classes=_adjust(classes), unpaired_because=None)


def format_points(points: float, sign: str = "") -> str:
    """Formats percentage points with one digit, or with as many as show that they are not 0.

    Args:
        sign: "+" to show the sign of positive points, too.

    >>> [format_points(points) for points in (1.25, 0.0049, 0.0)]
    ['1.2', '0.005', '0.0']
    """
    digits = 1 if abs(points) >= 0.05 or not points else math.ceil(-math.log10(abs(points) * 2))
    return f"{points + 0.0:{sign}.{digits}f}"  # + 0.0: -0.0 becomes 0.0


def _compare_counts(a: Report, b: Report, reason: str) -> Comparison:
    counts_a, counts_b = (
        {row["class_name"]: (row["correct"], row["support"]) for row in report.classes} for report in (a, b)
    )
    classes = [
        _unpaired_difference(name, counts_a.get(name, (0, 0)), counts_b.get(name, (0, 0)))
        for name in counts_a | counts_b
    ]
    total_a, total_b = ((report.record.correct, report.record.rows) for report in (a, b))
    overall = _unpaired_difference("all", total_a, total_b)
    return Comparison(overall=overall, classes=_adjust(classes), unpaired_because=reason)


def _paired_difference(
    name: str, ids: NDArray[np.int64], right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]
) -> Difference:
    rows, lost, won = len(ids), ids[right_a & ~right_b], ids[right_b & ~right_a]
    return _difference(
        name,
        (int(right_a.sum()), rows),
        (int(right_b.sum()), rows),
        test=measure_paired(len(lost), len(won), rows),
        flips=(_flips(lost), _flips(won)),
    )


def _unpaired_difference(name: str, a: Counts, b: Counts) -> Difference:
    return _difference(
        name,
        a,
        b,
        test=measure_unpaired(a, b),
        flips=(None, None),
    )


def _difference(
    name: str,
    a: Counts,
    b: Counts,
    *,
    test: DifferenceTest,
    flips: tuple[Flips | None, Flips | None],
) -> Difference:
    """Returns the difference between two models, each given as correct rows and all rows.

    Args:
        test: of the difference.
    """
    accuracy_a, accuracy_b = proportion(*a), proportion(*b)
    lost, won = flips
    found = Difference(
        name=name,
        a=accuracy_a,
        b=accuracy_b,
        points=None,
        low=None,
        high=None,
        p_value=None,
        lost=lost,
        won=won,
    )
    if accuracy_a.fraction is None or accuracy_b.fraction is None:
        return found
    # From exact fractions: as floats, 0.90 - 0.89 is more than 0.01.
    points = float(100 * (Fraction(*b) - Fraction(*a)))
    measured = dataclasses.replace(found, points=points, low=100 * test.low, high=100 * test.high)
    return _with_p_value(measured, test.p_value)


def _with_p_value(difference: Difference, p_value: float) -> Difference:
    """Returns a difference with a p-value, and with the interval that belongs to it."""
    assert difference.low is not None
    assert difference.high is not None
    low, high = match_interval(difference.low, difference.high, p_value, LEVEL)
    return dataclasses.replace(difference, low=float(low), high=float(high), p_value=p_value)


def _flips(ids: NDArray[np.int64]) -> Flips:
    return Flips(total=len(ids), ids=tuple(ids[:_MAX_IDS].tolist()))


def _adjust(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Returns the differences with their p-values adjusted by Holm over all of them."""
    tested = [each.p_value for each in differences if each.p_value is not None]
    adjusted = iter(significance.holm(tested))
    return tuple(
        each if each.p_value is None else _with_p_value(each, next(adjusted)) for each in differences
    )


def _describe(name: str, difference: Difference, than: str) -> str:
    if difference.points is None:
        return f"{name} cannot be compared: there are no rows"
    if not difference.points:
        return _describe_equal(difference)
    how, sign = ("better", 1) if difference.points > 0 else ("worse", -1)
    ends = sorted(sign * (end or 0.0) for end in (difference.low, difference.high))
    text = f"{name} is {how} {than}by {format_points(sign * difference.points)} points"
    between = f" ({format_points(ends[0])}..{format_points(ends[1])})"
    return text + between + ("" if difference.is_distinguishable else ", not distinguishable from noise")


def _describe_equal(difference: Difference) -> str:
    if difference.lost is None:
        return "A and B have the same accuracy"
    if difference.lost.total == 0:
        return "A and B are right on the same rows"
    return "A and B have the same accuracy, but are right on different rows"
