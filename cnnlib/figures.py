"""What all pictures drawn with matplotlib share: a figure without a window, the look of its axes, and its bytes."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

TEXT_COLOR = "#333333"
GRID_COLOR = "#e6e6e6"


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of so many inches, at 150 pixels per inch."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(width, height), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes) -> None:
    """Leaves of the frame only the bottom, and of the ticks only their labels; the grid comes below the data."""
    axes.tick_params(which="both", length=0, labelcolor=TEXT_COLOR)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID_COLOR)


def to_png(figure: Figure) -> bytes:
    """Draws the figure. The same figure gives the same bytes: matplotlib's version is not in the file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
