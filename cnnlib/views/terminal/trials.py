"""Trials of a search in, a table for a terminal of 80 columns out, as a rich renderable. Prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cnnlib.reports.percent import format_percent
from cnnlib.views.terminal.tables import NOTHING, new_table

_COLUMNS: Mapping[str, Any] = {"trial": "word", "epochs": "number", "validation": "number", "values": "name"}


def render_trials(trials: Sequence[Mapping[str, Any]], best: str) -> RenderableType:
    """Renders the trials, the best score first; those that failed come last, with the reason.

    Args:
        trials: with the keys of `cnnlib.tuning.run.Trial`.
        best: name of the trial whose recipe was written.
    """
    table = new_table(_COLUMNS)
    for trial in sorted(trials, key=lambda each: (-(each["score"] or 0.0), each["trial"])):
        values = " ".join(f"{name}={_short(value)}" for name, value in trial["values"].items())
        cells = (
            f"{trial['trial']}{' *' if trial['trial'] == best else ''}",
            str(trial["epochs"]),
            NOTHING if trial["score"] is None else format_percent(trial["score"]),
            f"{values}: {trial['problem']}" if trial["problem"] else values,
        )
        table.add_row(*map(Text, cells))
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
