"""A report's comparison with the previous report in; sentences, and the change of every class out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.comparison import Comparison, Difference, format_points
from cnnlib.reports.percent import format_percent
from cnnlib.views.page import formatting

_MAX_NAMES = 3


@dataclass(frozen=True, kw_only=True)
class ClassLine:
    """A class and its change since the previous report.

    Attributes:
        row: of the table `per_class`.
        before: accuracy in the previous report; None without one.
        change: change of the accuracy in points, with a sign; empty without a previous report.
        worse: whether the accuracy is significantly lower.
    """

    row: Mapping[str, Any]
    before: float | None
    change: str
    worse: bool


def class_lines(classes: Sequence[Mapping[str, Any]], comparison: Comparison | None) -> list[ClassLine]:
    """Returns the classes, each with its change since the previous report."""
    differences = {each.name: each for each in comparison.classes} if comparison else {}
    return [_class_line(row, differences.get(row["class_name"])) for row in classes]


def describe_comparison(comparison: Comparison | None, previous_model: str) -> tuple[str, ...]:
    """Describes the change since the previous report in sentences.

    Args:
        comparison: of this report (B) with the previous one (A); None: no sentence.
        previous_model: name of the model of the previous report.
    """
    if comparison is None or comparison.overall.points is None:
        return ()
    unpaired = "" if comparison.unpaired_because is None else " The reports could not be compared row by row."
    sentences = [_describe_overall(comparison.overall, previous_model) + unpaired]
    for adjective, sign in (("worse", -1), ("better", 1)):
        names = [each.name for each in comparison.classes if _is_significant(each, sign)]
        if names:
            more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            sentences.append(f"Significantly {adjective}: {', '.join(names[:_MAX_NAMES])}{more}.")
    return tuple(sentences)


def _class_line(row: Mapping[str, Any], difference: Difference | None) -> ClassLine:
    if difference is None or difference.points is None:
        return ClassLine(row=row, before=None, change="", worse=False)
    return ClassLine(
        row=row,
        before=difference.a.fraction,
        change=formatting.points(difference.points / 100),
        worse=_is_significant(difference, -1),
    )


def _is_significant(difference: Difference, sign: int) -> bool:
    return difference.is_distinguishable and sign * (difference.points or 0.0) > 0


def _describe_overall(overall: Difference, previous_model: str) -> str:
    than = f"the previous report ({previous_model}, {format_percent(overall.a.fraction)})"
    if not overall.points:
        return f"The accuracy is the same as in {than}."
    direction = "higher" if overall.points > 0 else "lower"
    # The interval of the size of the difference; an end on the other side of 0 is negative.
    low, high = sorted(
        abs(end) if end * overall.points > 0 else -abs(end)
        for end in (overall.low or 0.0, overall.high or 0.0)
    )
    size = f"The accuracy is {format_points(abs(overall.points))} points {direction} than in {than}"
    if overall.is_distinguishable:
        interval = f"{format_points(low)} to {format_points(high)} points".replace("-", "−")
        return f"{size}; 95% interval: {interval}."
    return f"{size}; this may be chance."
