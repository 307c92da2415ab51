"""Draws the curve of a learning-rate range test, without a display and without pyplot."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cnnlib.training.range_test.curve import RateCurve

_STEP_COLOR, _SMOOTHED_COLOR = "#b9cfdd", "#2a6f97"
_STEEPEST_COLOR, _TENTH_COLOR = "#d1603d", "#3d7a4e"
_TEXT_COLOR, _GRID_COLOR = "#333333", "#e6e6e6"


def rate_curve_png(curve: RateCurve, title: str) -> bytes:
    """Draws the loss against the learning rate, and the rates that the curve suggests; 1200 x 600 pixels."""
    figure = Figure(figsize=(8, 4), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=_TEXT_COLOR)
    axes.plot(curve.rates, curve.losses, color=_STEP_COLOR, linewidth=1, label="loss of a step")
    axes.plot(curve.rates, curve.smoothed(), color=_SMOOTHED_COLOR, linewidth=2, label="smoothed")
    for name, rate, color in (
        ("steepest fall", curve.steepest_rate, _STEEPEST_COLOR),
        ("a tenth of the minimum", curve.tenth_of_lowest_rate, _TENTH_COLOR),
    ):
        if rate is not None:
            axes.axvline(rate, color=color, linewidth=1.5, linestyle="--", label=f"{name}: {rate:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate", color=_TEXT_COLOR)
    axes.set_ylabel("training loss", color=_TEXT_COLOR)
    axes.set_ylim(0, 1.5 * float(curve.smoothed()[: max(1, len(curve.rates) // 4)].max()))
    axes.tick_params(length=0, which="both", labelcolor=_TEXT_COLOR)
    axes.grid(axis="y", color=_GRID_COLOR)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID_COLOR)
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    buffer = io.BytesIO()
    # Without matplotlib's version in the file, the same curve gives the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
