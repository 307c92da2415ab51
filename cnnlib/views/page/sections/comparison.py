"""A report's comparison with the one before in, what the page says of it out: sentences, and a mark for every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.comparison import Comparison, Difference
from cnnlib.reports.percent import format_percent
from cnnlib.views.page import formatting

_MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class ClassLine:
    """One class.

    Attributes:
        row: of the table `per_class`.
        before: its accuracy in the report before; None if there is none.
        change: how it moved since, as points with a sign; empty without one before.
        worse: whether it fell by more than chance explains.
    """

    row: Mapping[str, Any]
    before: float | None
    change: str
    worse: bool


def class_lines(classes: Sequence[Mapping[str, Any]], comparison: Comparison | None) -> list[ClassLine]:
    """The classes, each with how it moved since the report before."""
    moved = {each.name: each for each in comparison.classes} if comparison else {}
    return [_class_line(row, moved.get(row["class_name"])) for row in classes]


def describe_comparison(comparison: Comparison | None, before: str) -> tuple[str, ...]:
    """Sentences about the report before.

    Args:
        comparison: of this report (B) with that one (A).
        before: the name of that one's model.
    """
    if comparison is None or comparison.overall.points is None:
        return ()
    how = "" if comparison.unpaired_because is None else " The rows could not be compared one by one."
    said = [_describe_overall(comparison.overall, before) + how]
    for verb, sign in (("Worse", -1), ("Better", 1)):
        names = [each.name for each in comparison.classes if _moved_for_sure(each, sign)]
        if names:
            more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
            said.append(f"{verb} beyond chance: {', '.join(names[:_MAX_NAMED])}{more}.")
    return tuple(said)


def _class_line(row: Mapping[str, Any], difference: Difference | None) -> ClassLine:
    if difference is None or difference.points is None:
        return ClassLine(row=row, before=None, change="", worse=False)
    return ClassLine(
        row=row,
        before=difference.a.fraction,
        change=formatting.points(difference.points / 100),
        worse=_moved_for_sure(difference, -1),
    )


def _moved_for_sure(difference: Difference, sign: int) -> bool:
    return difference.is_distinguishable and sign * (difference.points or 0.0) > 0


def _describe_overall(overall: Difference, before: str) -> str:
    than = f"{before} ({format_percent(overall.a.fraction)})"
    if not overall.points:
        return f"As often right as {than}, the report before."
    how = "better" if overall.points > 0 else "worse"
    ends = sorted(
        abs(end) if end * overall.points > 0 else -abs(end)
        for end in (overall.low or 0.0, overall.high or 0.0)
    )
    size = f"{abs(overall.points):.1f} points {how} than {than}, the report before"
    if overall.is_distinguishable:
        return f"{size}; {ends[0]:.1f} to {ends[1]:.1f} points are likely.".replace("-", "−")
    return f"{size}; that may be chance."
