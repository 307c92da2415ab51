"""Batch sizes that were tried in, a table for a terminal of 80 columns out, as a rich renderable. Prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cnnlib.views.terminal.tables import NOTHING, new_table

_COLUMNS: Mapping[str, Any] = {
    "batch of a worker": "number",
    "memory": "number",
    "images/s": "number",
    "": "name",
}


def render_batches(trials: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Renders batch sizes with the memory and the speed of a worker, and why one does not fit.

    Args:
        trials: with the fields of `cnnlib.training.largest_batch.trial.Trial`.
    """
    table = new_table(_COLUMNS)
    for trial in trials:
        peak, speed = trial["peak_bytes"], trial["images_per_s"]
        cells = (
            str(trial["worker_batch_size"]),
            NOTHING if peak is None else f"{peak / 2**30:.2f} GiB",
            NOTHING if speed is None else f"{speed:.0f}",
            trial["problem"] or "",
        )
        table.add_row(*map(Text, cells))
    return table
