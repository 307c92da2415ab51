"""Formats rows for people: the cells of the tables, and the table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from cnnlib.bench.harness import Row

NOTHING = "-"


def build_table(rows: Sequence[Row]) -> RenderableType:
    """Returns a table for 80 columns, with one section per stage and, below, a line for each row that was not run."""
    table = Table("stage", Column("ours against theirs", ratio=1), box=box.HORIZONTALS)
    for name in ("ratio", "min..max", "n", "target", "met"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for row in rows:
        if last not in (None, row.stage):
            table.add_section()
        ratio, spread = describe_ratio(row)
        cells = (ratio, spread, str(len(row.pairs)), describe_target(row), describe_verdict(row))
        # Text, not markup: the name of a peer may contain brackets.
        stage = row.stage if row.stage != last else ""
        table.add_row(*(Text(cell) for cell in (stage, _describe_both(row), *cells)))
        last = row.stage
    reasons = [Text(f"{row.stage}, {row.case}, {row.peer}: {row.not_run}") for row in rows if row.not_run]
    return Group(table, *reasons)


def _describe_both(row: Row) -> str:
    ours, theirs = describe_medians(row)
    medians = f"\n{ours.removesuffix(f' {row.unit}')} : {theirs}" if row.pairs else ""
    return f"{row.case}\nagainst {row.peer}{medians}"


def describe_ratio(row: Row) -> tuple[str, str]:
    """Returns the median ratio, and the range from the least to the greatest."""
    if row.ratio is None:
        return NOTHING, NOTHING
    ratios = [pair.ratio for pair in row.pairs]
    digits = 4 if row.unit == "share" else 2
    return f"{row.ratio:.{digits}f}", f"{min(ratios):.{digits}f}..{max(ratios):.{digits}f}"


def describe_medians(row: Row) -> tuple[str, str]:
    """Returns the median measurements of ours and of the peer, with their unit."""
    if row.medians is None:
        return NOTHING, NOTHING
    ours, theirs = row.medians
    if row.unit == "share":
        return f"{ours:.2%}", "100%"
    digits = 1 if row.unit == "s" else 0
    return f"{ours:,.{digits}f} {row.unit}", f"{theirs:,.{digits}f} {row.unit}"


def describe_target(row: Row) -> str:
    """Returns the target as `>= 1.4`, or as `<= 3` if a lower ratio is better."""
    if row.target is None:
        return NOTHING
    return f"{'<=' if row.goal == 'at most' else '>='} {row.target:g}"


def describe_verdict(row: Row) -> str:
    """Returns yes, no, not run or failed; a dash if there is no target."""
    if row.not_run is not None:
        return "failed" if row.failed else "not run"
    if row.met is None:
        return NOTHING
    return "yes" if row.met else "no"
