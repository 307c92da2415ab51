"""Comparisons and rankings in, tables for a terminal of 80 columns out, as rich renderables. Prints nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from cnnlib.reports.comparison import LEVEL, Comparison, Difference, Flips, format_points
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.percent import format_percent
from cnnlib.reports.ranking import Ranking
from cnnlib.reports.subject import SHORT_ID_DIGITS
from cnnlib.views.terminal.tables import (
    MAX_CLASSES,
    NOTHING,
    Columns,
    describe_left_out,
    format_accuracy,
    heading,
    new_table,
    percent_cell,
)

_MAX_SHOWN_IDS = 8

_COMPARISON_COLUMNS: Columns = {
    "class": "name",
    "A": "number",
    "B": "number",
    "B - A": "number",
    "95 % range": "number",
    "lost": "number",
    "won": "number",
    "p": "number",
    "": "word",
}
_RANKING_COLUMNS: Columns = {
    "report": "word",
    "model": "name",
    "data": "name",
    "accuracy": "number",
    "95 % range": "number",
    "group": "name",
}


def render_comparison(a: ReportRecord, b: ReportRecord, comparison: Comparison) -> RenderableType:
    """Renders two reports side by side: both accuracies, the difference B - A in points, its interval and p-value."""
    overall = comparison.overall
    table = new_table(_COMPARISON_COLUMNS, (overall.name, *_format_difference(overall)))
    shown = _classes_to_show(comparison.classes)
    for difference in shown:
        table.add_row(Text(difference.name), *_format_difference(difference))
    level = format_percent(LEVEL, 0)
    lines = [f"B - A in points; *: significant at the {level} level (Holm over the classes)."]
    if comparison.unpaired_because is None:
        lines.append("lost: correct in A, wrong in B; won: the reverse. p: McNemar's exact test.")
        lines += [
            f"{name}: {_format_ids(flips)}"
            for name, flips in (("lost", overall.lost), ("won", overall.won))
            if flips
        ]
    else:
        lines.append(f"{_describe_unpaired(comparison.unpaired_because)} p: Fisher's exact test.")
    left_out = len(comparison.classes) - len(shown)
    if left_out:
        lines.insert(0, describe_left_out(left_out, "with larger p-values").plain)
    sentence = Text(comparison.words, style="bold")
    return Group(heading("A", a), heading("B", b), "", sentence, "", table, *map(Text, lines))


def render_ranking(ranking: Ranking) -> RenderableType:
    """Renders a ranking by accuracy, in which reports that share a letter do not differ significantly."""
    table = new_table(_RANKING_COLUMNS)
    for ranked in ranking.reports:
        record = ranked.record
        table.add_row(
            record.report_id[:SHORT_ID_DIGITS],
            Text(record.subject.model_label),
            Text(record.subject.data_label),
            *format_accuracy(record.accuracy),
            " ".join(ranked.groups),
        )
    lines = ["Reports that share a letter do not differ significantly (all pairs tested, Holm, 5 % level)."]
    if ranking.unpaired_because is not None:
        lines.append(_describe_unpaired(ranking.unpaired_because))
    return Group(Text(ranking.words, style="bold"), "", table, *map(Text, lines))


def _classes_to_show(classes: Sequence[Difference]) -> Sequence[Difference]:
    """Returns all classes or, of more than `MAX_CLASSES`, those with the lowest p-values, the worst first."""
    if len(classes) <= MAX_CLASSES:
        return classes
    known = [each for each in classes if each.p_value is not None]
    return sorted(known, key=lambda each: (each.p_value or 0.0, each.points or 0.0))[:MAX_CLASSES]


def _describe_unpaired(reason: str) -> str:
    return f"Not paired row by row, so the test has less power: {reason}."


def _format_difference(difference: Difference) -> tuple[str, ...]:
    if (
        difference.points is None
        or difference.low is None
        or difference.high is None
        or difference.p_value is None
    ):
        return (
            percent_cell(difference.a.fraction),
            percent_cell(difference.b.fraction),
            *[NOTHING] * 5,
            "",
        )
    return (
        percent_cell(difference.a.fraction),
        percent_cell(difference.b.fraction),
        format_points(difference.points, "+"),
        f"{format_points(difference.low, '+')}..{format_points(difference.high, '+')}",
        *(NOTHING if flips is None else str(flips.total) for flips in (difference.lost, difference.won)),
        "<.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}",
        "*" if difference.is_distinguishable else "",
    )


def _format_ids(flips: Flips) -> str:
    if not flips.total:
        return "no rows"
    shown = ", ".join(map(str, flips.ids[:_MAX_SHOWN_IDS]))
    rows = f"{flips.total} row" + ("s" if flips.total > 1 else "")
    return f"{rows}, ids {shown}{', …' if flips.total > _MAX_SHOWN_IDS else ''}"
