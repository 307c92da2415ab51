"""Draws the learning curves of a training run from its history, without a display and without pyplot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cnnlib.figures import GRID_COLOR, TEXT_COLOR, new_figure, style, to_png
from cnnlib.runs.history import EpochRecord

_TRAINING = ("training", "#2a6f97")
_VALIDATION = ("validation", "#d1603d")
_LEGEND: dict[str, str | float | bool] = {
    "frameon": False,
    "fontsize": 9,
    "labelcolor": "linecolor",
    "handlelength": 1.2,
}
_MAX_MARKERS = 20


def learning_curves_png(history: Sequence[EpochRecord]) -> bytes:
    """Draws loss and accuracy against the epoch, those of validation rows too if there are any; 1200 x 480 pixels.

    Args:
        history: at least one epoch, in order.
    """
    figure = new_figure(8, 3.2)
    epochs = [record.epoch for record in history]
    loss, accuracy = figure.subplots(1, 2)
    _style(loss, "Loss", epochs)
    _draw(loss, _TRAINING, epochs, [record.loss for record in history], "{:.3f}")
    _draw(loss, _VALIDATION, epochs, [record.validation_loss for record in history], "{:.3f}")
    loss.legend(loc="upper right", **_LEGEND)
    _style(accuracy, "Accuracy", epochs)
    _draw(accuracy, _TRAINING, epochs, [record.accuracy for record in history], "{:.1%}")
    _draw(accuracy, _VALIDATION, epochs, [record.validation_accuracy for record in history], "{:.1%}")
    accuracy.legend(loc="lower right", **_LEGEND)
    loss.set_ylim(bottom=0)
    accuracy.set_ylim(top=min(1.0, accuracy.get_ylim()[1]))
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return to_png(figure)


def _style(axes: Axes, title: str, epochs: Sequence[int]) -> None:
    style(axes)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=TEXT_COLOR)
    axes.set_xlabel("epoch", color=TEXT_COLOR)
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.grid(axis="y", color=GRID_COLOR)


def _draw(
    axes: Axes,
    line: tuple[str, str],
    epochs: Sequence[int],
    values: Sequence[float | None],
    value_format: str,
) -> None:
    """Draws one line (name, color) over the epochs that have a value; the legend states the last one."""
    points = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
    if not points:
        return
    name, color = line
    axes.plot(
        *zip(*points, strict=True),
        color=color,
        linewidth=1.8,
        marker="o" if len(points) <= _MAX_MARKERS else None,
        markersize=4,
        label=f"{name} {value_format.format(points[-1][1])}",
    )
