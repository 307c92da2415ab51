"""Rows of a ladder in, one picture out: accuracy against minutes, and against parameters beside published results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from cnnlib.figures import GRID_COLOR, TEXT_COLOR, new_figure, style, to_png
from cnnlib.views.ladder.definition import Ladder
from cnnlib.views.ladder.rows import Measured, Row

_OURS, _OTHERS = "#2a6f97", "#8a8a8a"
_PLAIN: dict[str, Any] = {"parse_math": False}  # a name may hold two dollar signs


def ladder_png(ladder: Ladder, rows: Sequence[Row]) -> bytes:
    """Draws the median of each rung with the interval of its rows, and a bar between the seeds; 1800 x 825 pixels."""
    figure = new_figure(12, 5.5)
    figure.suptitle(
        f"{ladder.title}: accuracy on {ladder.split}", x=0.02, ha="left", color=TEXT_COLOR, **_PLAIN
    )
    by_minutes, by_parameters = figure.subplots(1, 2, sharey=True)
    _style(by_minutes, "Training minutes", fine=True)
    _draw_rungs(by_minutes, rows, lambda measured: measured.minutes)
    _style(by_parameters, "Parameters (grey: published by others)", fine=False)
    most = max((each.parameters or 0 for each in ladder.published), default=0)
    for each in ladder.published:
        if each.parameters is not None:
            # A text on the right of the last points would leave the picture.
            on_left = each.parameters > most / 10
            _draw_published(by_parameters, each.parameters, each.accuracy, each.name, on_left=on_left)
    _draw_rungs(by_parameters, rows, lambda measured: measured.parameters)
    return to_png(figure)


def _style(axes: Axes, label: str, *, fine: bool) -> None:
    style(axes)
    axes.set_xscale("log")
    axes.set_xlabel(label, color=TEXT_COLOR)
    axes.grid(color=GRID_COLOR)
    axes.margins(x=0.12, y=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if fine else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=1))


def _draw_rungs(axes: Axes, rows: Sequence[Row], cost: Callable[[Measured], float | None]) -> None:
    for row in rows:
        if row.measured is None:
            continue
        group, x = row.measured.group, cost(row.measured)
        low, high = group.middle.accuracy.low, group.middle.accuracy.high
        if x is None or low is None or high is None:
            continue
        axes.plot([x, x], [low, high], color=_OURS, linewidth=1.2)
        axes.plot(
            [x, x], [min(group.accuracies), max(group.accuracies)], color=_OURS, linewidth=4.5, alpha=0.5
        )
        axes.plot([x], [group.median], "o", color=_OURS, markersize=6)
        axes.annotate(
            f"{row.rung.name} {group.median:.2%}",
            (x, group.median),
            (7, 5),
            textcoords="offset points",
            fontsize=9,
            color=_OURS,
            **_PLAIN,
        )


def _draw_published(axes: Axes, parameters: int, accuracy: float, name: str, *, on_left: bool) -> None:
    axes.plot([parameters], [accuracy], "D", color=_OTHERS, markersize=4)
    axes.annotate(
        f"{name} {accuracy:.2%}",
        (parameters, accuracy),
        (-6, -3) if on_left else (6, -10),
        textcoords="offset points",
        ha="right" if on_left else "left",
        fontsize=7.5,
        color=_OTHERS,
        **_PLAIN,
    )
