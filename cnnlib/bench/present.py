"""Rows in, what a person reads out: the cells of the tables, and the table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from cnnlib.bench.harness import Row

NOTHING = "-"


def build_table(rows: Sequence[Row]) -> RenderableType:
    """A table for 80 columns, one section per stage; below it, a line for each row that was not run."""
    table = Table("stage", Column("ours against theirs", ratio=1), box=box.HORIZONTALS)
    for name in ("ratio", "min..max", "n", "target", "met"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for row in rows:
        if last not in (None, row.stage):
            table.add_section()
        ratio, spread = describe_ratio(row)
        cells = (ratio, spread, str(len(row.pairs)), describe_target(row), describe_verdict(row))
        # As text, not markup: a peer's name may hold brackets.
        stage = row.stage if row.stage != last else ""
        table.add_row(*(Text(cell) for cell in (stage, _describe_both(row), *cells)))
        last = row.stage
    why = [Text(f"{row.stage}, {row.case}, {row.peer}: {row.not_run}") for row in rows if row.not_run]
    return Group(table, *why)


def _describe_both(row: Row) -> str:
    ours, theirs = describe_metric(row)
    figures = f"\n{ours.removesuffix(f' {row.unit}')} : {theirs}" if row.pairs else ""
    return f"{row.case}\nagainst {row.peer}{figures}"


def describe_ratio(row: Row) -> tuple[str, str]:
    """The median ratio, and its least and greatest."""
    if row.ratio is None:
        return NOTHING, NOTHING
    ratios = [pair.ratio for pair in row.pairs]
    digits = 4 if row.unit == "share" else 2
    return f"{row.ratio:.{digits}f}", f"{min(ratios):.{digits}f}..{max(ratios):.{digits}f}"


def describe_metric(row: Row) -> tuple[str, str]:
    """The medians of ours and the peer's, with their unit."""
    figures = row.to_json()
    ours, theirs = figures["ours_median"], figures["peer_median"]
    if ours is None:
        return NOTHING, NOTHING
    if row.unit == "share":
        return f"{ours:.2%}", "100%"
    digits = 1 if row.unit == "s" else 0
    return f"{ours:,.{digits}f} {row.unit}", f"{theirs:,.{digits}f} {row.unit}"


def describe_target(row: Row) -> str:
    """`>= 1.4`, or `<= 3` where less is better."""
    if row.target is None:
        return NOTHING
    return f"{'<=' if row.goal == 'at most' else '>='} {row.target:g}"


def describe_verdict(row: Row) -> str:
    """Yes, no, not run, failed, or nothing where there is no target."""
    if row.not_run is not None:
        return "failed" if row.failed else "not run"
    if row.met is None:
        return NOTHING
    return "yes" if row.met else "no"
