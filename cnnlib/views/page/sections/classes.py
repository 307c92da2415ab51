"""The classes of a report in; those that its bars and its table show, and sentences about the others, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnlib.reports.percent import format_percent
from cnnlib.views.page.sections.comparison import ClassLine

MAX_BARS = 100
"""With more classes the bars show only the ones with the lowest accuracy, `FEW_BARS`."""
FEW_BARS = 50
MAX_INTERVALS = 200
"""With more classes the table shows no intervals."""
MAX_LINES = 1000
"""With more classes the table shows this many, one in five of them those with the highest accuracy."""
MIN_SEARCHED = 30
"""With more classes the table can be searched."""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """What a page shows of the classes.

    Attributes:
        bars: without accuracy first, then by accuracy, the lowest first.
        bars_note: which classes the bars leave out; empty if none.
        lines: of the table, in the order of the classes.
        lines_note: which classes or intervals the table leaves out; empty if none.
        has_intervals: whether the table shows them.
        is_tall: whether the table scrolls in a window of its own.
        has_search: whether the table has a field to search for a class.
        sentence: the classes with the lowest and the highest accuracy.
    """

    bars: Sequence[ClassLine]
    bars_note: str
    lines: Sequence[ClassLine]
    lines_note: str
    has_intervals: bool
    is_tall: bool
    has_search: bool
    sentence: str


def build_classes(lines: Sequence[ClassLine]) -> Classes:
    """Chooses the classes that a page shows; of few classes all."""
    total = len(lines)
    ranked = sorted((line for line in lines if line.row["accuracy"] is not None), key=_accuracy)
    unknown = [line for line in lines if line.row["accuracy"] is None]
    few_bars = total > MAX_BARS
    if (
        few_bars
    ):  # of classes with equal accuracy first those with most rows, which have the narrowest intervals
        ranked.sort(key=lambda line: (_accuracy(line), line.row["accuracy_high"]))
    table = _choose_lines(lines, ranked) if total > MAX_LINES else lines
    return Classes(
        bars=ranked[:FEW_BARS] if few_bars else [*unknown, *ranked],
        bars_note=f"The {len(ranked[:FEW_BARS])} of {total:,} classes with the lowest accuracy."
        if few_bars
        else "",
        lines=table,
        lines_note=_describe_lines(len(table), total),
        has_intervals=total <= MAX_INTERVALS,
        is_tall=len(table) > MAX_BARS,
        has_search=total > MIN_SEARCHED,
        sentence=_describe(ranked),
    )


def _choose_lines(lines: Sequence[ClassLine], ranked: Sequence[ClassLine]) -> list[ClassLine]:
    highest = MAX_LINES // 5
    chosen = {
        line.row["class_index"]
        for line in (
            *ranked[: MAX_LINES - highest],
            *ranked[max(MAX_LINES - highest, len(ranked) - highest) :],
        )
    }
    return [line for line in lines if line.row["class_index"] in chosen]


def _describe_lines(shown: int, total: int) -> str:
    if total <= MAX_INTERVALS:
        return ""
    stored = "are in the table per_class of the report (Parquet)."
    if total <= MAX_LINES:
        return f"The intervals {stored}"
    return (
        f"{shown:,} of {total:,} classes: those with the lowest accuracy, and the {MAX_LINES // 5} with the highest. "
        f"All classes, and the intervals, {stored}"
    )


def _describe(ranked: Sequence[ClassLine]) -> str:
    if len(ranked) < 2:
        return ""
    lowest, highest = ranked[0].row, ranked[-1].row
    return (
        f"{lowest['class_name']} has the lowest accuracy, {format_percent(lowest['accuracy'])}; "
        f"{highest['class_name']} has the highest, {format_percent(highest['accuracy'])}."
    )


def _accuracy(line: ClassLine) -> float:
    return float(line.row["accuracy"])
