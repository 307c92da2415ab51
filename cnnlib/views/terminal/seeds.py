"""Runs with several seeds in, a table for a terminal of 80 columns out, as a rich renderable. Prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cnnlib.reports.percent import format_percent
from cnnlib.views.experiments.seeds import SeedGroup
from cnnlib.views.terminal.tables import new_table

_COLUMNS: Mapping[str, Any] = {
    "runs": "name",
    "data": "name",
    "seeds": "number",
    "epochs": "number",
    "median": "number",
    "between seeds": "number",
    "95 % range": "number",
}


def render_seeds(groups: Sequence[SeedGroup]) -> RenderableType:
    """Renders the median of each group, its spread between seeds, and the interval of the run in the middle."""
    if not groups:
        return Text(
            "No reports about two runs that differ in their seed alone. Train some with jobs.train --seeds 0 1 2, and "
            "evaluate each."
        )
    table = new_table(_COLUMNS)
    for group in groups:
        row = group.to_row()
        cells = (
            group.name,
            row["data"],
            str(len(group.seeds)),
            _epochs(group),
            format_percent(group.median),
            f"{format_percent(row['lowest_accuracy'])}-{format_percent(row['highest_accuracy'])}",
            f"{format_percent(row['accuracy_low'])}-{format_percent(row['accuracy_high'])}",
        )
        table.add_row(*map(Text, cells))
    return Group(
        table,
        "",
        Text(
            "Between seeds: the lowest and the highest accuracy. 95 % range: of the run in the middle, by its rows."
        ),
    )


def _epochs(group: SeedGroup) -> str:
    """Returns how long the runs trained: they may differ, where one is not finished or not evaluated to its end."""
    epochs = [record.subject.checkpoint_epoch or 0 for record in group.records]
    return str(epochs[0]) if len(set(epochs)) == 1 else f"{min(epochs)}-{max(epochs)}"
