"""Two reports in, their differences in accuracy out: how large, how sure, on which rows, and in words.

Paired on the same rows where both stored their predictions; else by each one's own counts, which finds less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib.metrics import significance
from cnnlib.metrics.intervals import Proportion, paired_interval, proportion, unpaired_interval
from cnnlib.reports.pairing import PairedRows, Unpaired, pair_rows
from cnnlib.reports.read import Report

LEVEL = 0.05
_MAX_IDS = 100
_MAX_TOLD = 3  # classes of each kind that the sentence names


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Rows that one model has right and the other wrong.

    Attributes:
        total: how many.
        ids: the first of them in the order of their ids, at most 100.
    """

    total: int
    ids: tuple[int, ...]

    def to_row(self) -> dict[str, Any]:
        """As JSON values."""
        return {"total": self.total, "ids": list(self.ids)}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the accuracy of one class, or of all, differs between report A and report B.

    Attributes:
        name: the class, or all.
        a: accuracy in A; all None where A has no rows of it.
        b: the same in B.
        points: b - a in percentage points; None where either has no rows, as all that follows.
        low: lower end of its 95 % interval, in points.
        high: upper end.
        p_value: two-sided, of both being as often right; of a class adjusted by Holm over the classes.
        lost: rows that A has right and B wrong; None where they are not paired.
        won: rows that B has right and A wrong; None where they are not paired.
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
        """Whether chance alone gives such a difference at most 5 % of the time."""
        return self.p_value is not None and self.p_value <= LEVEL

    def to_row(self) -> dict[str, Any]:
        """As JSON values."""
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
    """Report B against report A.

    Attributes:
        classes: A's classes in their order, then those only B has.
        unpaired_because: why the rows are not paired; None where they are.
    """

    overall: Difference
    classes: tuple[Difference, ...]
    unpaired_because: str | None

    @property
    def words(self) -> str:
        """The comparison as a sentence: all rows, then the classes that differ for sure, and the one that fell most."""
        known = sorted((each for each in self.classes if each.points), key=lambda each: each.points or 0.0)
        worse = [each for each in known if (each.points or 0.0) < 0]
        fell = [each for each in worse if each.is_distinguishable or each is worse[0]]
        rose = [each for each in reversed(known) if each not in worse and each.is_distinguishable]
        clauses = [_describe("B", self.overall, "than A ")]
        for changed, how in ((fell, "worse"), (rose, "better")):
            clauses += [_describe(each.name, each, "") for each in changed[:_MAX_TOLD]]
            if len(changed) > _MAX_TOLD:
                clauses.append(f"{len(changed) - _MAX_TOLD} more classes are {how}")
        return "; ".join(clauses) + "."

    def to_row(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "words": self.words,
            "unpaired_because": self.unpaired_because,
            "overall": self.overall.to_row(),
            "classes": [difference.to_row() for difference in self.classes],
        }


def compare_reports(reports_uri: str, a: Report, b: Report) -> Comparison:
    """Compares two reports, on the same rows where they can be paired.

    Args:
        reports_uri: the folder of all reports.
    """
    paired = pair_rows(reports_uri, (a.record, b.record))
    if isinstance(paired, Unpaired):
        return _compare_counts(a, b, paired.reason)
    return _compare_rows(paired, [row["class_name"] for row in a.classes])


def _compare_rows(paired: PairedRows, class_names: Sequence[str]) -> Comparison:
    right_a, right_b = paired.right
    classes = []
    for index, name in enumerate(class_names):
        of_class = np.flatnonzero(paired.labels == index)
        classes.append(_paired_difference(name, paired.ids[of_class], right_a[of_class], right_b[of_class]))
    overall = _paired_difference("all", paired.ids, right_a, right_b)
    return Comparison(overall=overall, classes=_adjust(classes), unpaired_because=None)


def _compare_counts(a: Report, b: Report, reason: str) -> Comparison:
    of_a, of_b = (
        {row["class_name"]: (row["correct"], row["support"]) for row in report.classes} for report in (a, b)
    )
    classes = [
        _unpaired_difference(name, of_a.get(name, (0, 0)), of_b.get(name, (0, 0))) for name in of_a | of_b
    ]
    total_a, total_b = ((report.record.correct, report.record.rows) for report in (a, b))
    overall = _unpaired_difference("all", total_a, total_b)
    return Comparison(overall=overall, classes=_adjust(classes), unpaired_because=reason)


def _paired_difference(
    name: str, ids: NDArray[np.int64], right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]
) -> Difference:
    rows, lost, won = len(ids), ids[right_a & ~right_b], ids[right_b & ~right_a]
    low, high = paired_interval(len(lost), len(won), rows)
    return Difference(
        name=name,
        a=proportion(int(right_a.sum()), rows),
        b=proportion(int(right_b.sum()), rows),
        points=100 * (len(won) - len(lost)) / rows if rows else None,
        low=100 * float(low) if rows else None,
        high=100 * float(high) if rows else None,
        p_value=significance.mcnemar_p(len(lost), len(won)) if rows else None,
        lost=_flips(lost),
        won=_flips(won),
    )


def _unpaired_difference(name: str, a: tuple[int, int], b: tuple[int, int]) -> Difference:
    """The difference between (correct, rows) of A and of B."""
    of_a, of_b = proportion(*a), proportion(*b)
    if of_a.fraction is None or of_b.fraction is None:
        return Difference(
            name=name, a=of_a, b=of_b, points=None, low=None, high=None, p_value=None, lost=None, won=None
        )
    low, high = unpaired_interval(*a, *b)
    return Difference(
        name=name,
        a=of_a,
        b=of_b,
        points=100 * (of_b.fraction - of_a.fraction),
        low=100 * float(low),
        high=100 * float(high),
        p_value=significance.unpaired_p(*a, *b),
        lost=None,
        won=None,
    )


def _flips(ids: NDArray[np.int64]) -> Flips:
    return Flips(total=len(ids), ids=tuple(ids[:_MAX_IDS].tolist()))


def _adjust(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """The classes with their p-values adjusted for how many were tested."""
    tested = [each.p_value for each in differences if each.p_value is not None]
    adjusted = iter(significance.holm(tested))
    return tuple(
        each if each.p_value is None else dataclasses.replace(each, p_value=next(adjusted))
        for each in differences
    )


def _describe(name: str, difference: Difference, than: str) -> str:
    if difference.points is None:
        return f"{name} cannot be compared: there are no rows"
    if not difference.points:
        return _describe_equal(difference)
    how, sign = ("better", 1) if difference.points > 0 else ("worse", -1)
    ends = sorted(sign * (end or 0.0) for end in (difference.low, difference.high))
    text = f"{name} is {how} {than}by {_points(sign * difference.points)} points"
    between = f" ({_points(ends[0])}..{_points(ends[1])})"
    if difference.is_distinguishable:
        return text + between
    # The range is of one class alone, and may leave out 0 where a test of all classes together does not.
    return f"{text}{between if than else ''}, not distinguishable from noise"


def _describe_equal(difference: Difference) -> str:
    if difference.lost is not None and difference.lost.total == 0:
        return "A and B are right on the very same rows"
    return "A and B are as often right, though not on the same rows"


def _points(points: float) -> str:
    """Points with a digit more where one would round them away."""
    return f"{points:.1f}" if abs(points) >= 0.05 or not points else f"{points:.2f}"
