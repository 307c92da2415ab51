"""The verdicts of gates in, a table for a terminal of 80 columns out, as a rich renderable. Prints nothing."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from cnnlib.gates.apply import GateResult
from cnnlib.gates.verdicts import worst_first
from cnnlib.views.terminal.tables import Columns, new_table, percent_cell

_COLUMNS: Columns = {
    "verdict": "word",
    "check": "word",
    "scope": "name",
    "limit": "number",
    "observed": "number",
    "reason": "name",
}
MAX_CHECKS = 100
"""The table has at most this many lines."""
_STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}


def render_gates(result: GateResult) -> RenderableType:
    """Renders the checks, worst first, under the verdict of all checks."""
    table = new_table(_COLUMNS)
    for row in sorted(result.rows, key=worst_first)[:MAX_CHECKS]:
        table.add_row(
            Text(row["verdict"], style=_STYLES[row["verdict"]]),
            row["check"],
            Text(row["class_name"] or row["slice"] or "all"),
            percent_cell(row["limit"]),
            percent_cell(row["observed"]),
            Text(row["reason"]),
        )
    baselines = sorted({row["baseline_id"] for row in result.rows if row["baseline_id"] is not None})
    against = f"  against {', '.join(baselines)}" if baselines else ""
    heading = Text.assemble(
        (f"gates {result.verdict}", _STYLES[result.verdict]), f"  report {result.report_id}{against}"
    )
    left_out = len(result.rows) - MAX_CHECKS
    more = (
        [Text(f"{left_out:,} more checks are in the table gates (Parquet) and in --json.")]
        if left_out > 0
        else []
    )
    return Group(heading, "", table, *more)
