"""Draws the curve of a learning-rate range test, without a display and without pyplot."""

from __future__ import annotations

from cnnlib.figures import GRID_COLOR, TEXT_COLOR, new_figure, style, to_png
from cnnlib.training.range_test.curve import RateCurve

_STEP_COLOR, _SMOOTHED_COLOR = "#b9cfdd", "#2a6f97"
_STEEPEST_COLOR, _TENTH_COLOR = "#d1603d", "#3d7a4e"


def rate_curve_png(curve: RateCurve, title: str) -> bytes:
    """Draws the loss against the learning rate, and the rates that the curve suggests; 1200 x 600 pixels."""
    figure = new_figure(8, 4)
    axes = figure.subplots()
    style(axes)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=TEXT_COLOR)
    axes.plot(curve.rates, curve.losses, color=_STEP_COLOR, linewidth=1, label="loss of a step")
    axes.plot(curve.rates, curve.smoothed(), color=_SMOOTHED_COLOR, linewidth=2, label="smoothed")
    for name, rate, color in (
        ("steepest fall", curve.steepest_rate, _STEEPEST_COLOR),
        ("a tenth of the minimum", curve.tenth_of_lowest_rate, _TENTH_COLOR),
    ):
        if rate is not None:
            axes.axvline(rate, color=color, linewidth=1.5, linestyle="--", label=f"{name}: {rate:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate", color=TEXT_COLOR)
    axes.set_ylabel("training loss", color=TEXT_COLOR)
    axes.set_ylim(0, 1.5 * float(curve.smoothed()[: max(1, len(curve.rates) // 4)].max()))
    axes.grid(axis="y", color=GRID_COLOR)
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    return to_png(figure)
