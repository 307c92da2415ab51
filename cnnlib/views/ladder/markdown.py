"""Rows of a ladder in, a Markdown document out: the table, the commands and the published results."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cnnlib.reports.percent import format_percent
from cnnlib.views.ladder.definition import Ladder
from cnnlib.views.ladder.rows import Row

_NOTHING = "-"
_HEADERS = (
    "rung", "rule", "accuracy", "seeds", "between seeds", "95 % interval", "parameters", "MFLOP", "epochs", "minutes",
    "images/s", "target", "verdict",
)  # fmt: skip


def ladder_markdown(ladder: Ladder, rows: Sequence[Row]) -> str:
    """Returns the ladder as Markdown."""
    lines = [f"# {' '.join(ladder.title.split())}", ""]
    lines += _table(_HEADERS, [_cells(row) for row in rows])
    lines += [
        "",
        f"Accuracy: the median over the seeds, of the last epoch, on all rows of the split {ladder.split}. Between "
        "seeds: the lowest and the highest. 95 % interval: of the run in the middle, by its rows (Wilson). MFLOP: of "
        "one prediction. Minutes: of all epochs of a run, the median over the seeds; starting and evaluating come on "
        "top.",
        "",
        "Each row again:",
        "",
        "```sh",
        *map(_command, rows),
        "```",
    ]
    if ladder.published:
        published = [
            (
                each.name,
                format_percent(each.accuracy, 2),
                _NOTHING if each.parameters is None else f"{each.parameters:,}",
                each.source,
            )
            for each in ladder.published
        ]
        lines += ["", "Published by others, mostly of single runs:", ""]
        lines += _table(("result", "accuracy", "parameters", "source"), published)
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    rung, measured = row.rung, row.measured
    target = rung.target if rung.expected is None else rung.expected
    end = (
        _NOTHING
        if target is None
        else f"{'' if rung.expected is None else 'holds '}{format_percent(target, 2)}",
        row.verdict,
    )
    if measured is None:
        return rung.name, rung.rule, *[_NOTHING] * 9, *end
    group = measured.group
    low, high = group.middle.accuracy.low, group.middle.accuracy.high
    return (
        rung.name,
        rung.rule,
        f"**{format_percent(group.median, 2)}**",
        str(len(group.seeds)),
        f"{format_percent(min(group.accuracies), 2, unit='')}..{format_percent(max(group.accuracies), 2, unit='')}",
        f"{format_percent(low, 2, unit='')}..{format_percent(high, 2, unit='')}",
        _number(measured.parameters),
        _number(None if measured.flops_per_image is None else measured.flops_per_image / 1e6, 1),
        str(measured.epochs),
        _number(measured.minutes, 1),
        _number(measured.images_per_s),
        *end,
    )


def _number(value: float | None, digits: int = 0) -> str:
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def _command(row: Row) -> str:
    seeds = "0 1 2" if row.measured is None else " ".join(map(str, row.measured.group.seeds))
    recipe, name = shlex.quote(row.rung.recipe), shlex.quote(row.rung.name)
    return f"python -m jobs.train {recipe} --data DATA --name {name} --seeds {seeds}"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headers, ["---"] * len(headers), *rows]
    return [f"| {' | '.join(map(_escape, line))} |" for line in lines]


def _escape(cell: str) -> str:
    """Returns a text as a cell of a table: on one line, and without the mark between cells."""
    return " ".join(cell.split()).replace("|", chr(92) + "|")
