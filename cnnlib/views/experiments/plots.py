"""Experiments in, one picture out: the accuracy of each model, and how its cost grows with the image size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, PercentFormatter

from cnnlib.figures import GRID_COLOR, TEXT_COLOR, new_figure, style, to_png
from cnnlib.models.cost_table import CostAtSize
from cnnlib.views.experiments.experiments import Experiment

_COLORS = ("#2a6f97", "#d1603d", "#5b8c5a", "#8e6c8a", "#b08a3e", "#4f5d75")
_MAX_RESULTS = 12  # more would not be readable; the table lists all


def experiments_png(experiments: Sequence[Experiment], costs: Sequence[CostAtSize]) -> bytes:
    """Draws the accuracies with their intervals, and three costs against the pixels of an image; 1500 x 1080 pixels.

    Args:
        experiments: the first twelve are drawn.
        costs: of every model, from the smallest image to the largest.
    """
    figure = new_figure(10, 7.2)
    names = [cost.model for cost in costs] + [experiment.model for experiment in experiments]
    colors = {name: _COLORS[index % len(_COLORS)] for index, name in enumerate(dict.fromkeys(names))}
    (results, parameters), (flops, activations) = figure.subplots(2, 2)
    _draw_results(results, experiments[:_MAX_RESULTS], colors)
    _draw_growth(parameters, "Parameters", costs, lambda cost: cost.parameters, colors)
    _draw_growth(flops, "Operations (FLOP) for one image", costs, lambda cost: cost.flops_per_image, colors)
    _draw_growth(
        activations, "Activations of one image, bytes", costs, lambda cost: cost.activation_bytes, colors
    )
    return to_png(figure)


def _style(axes: Axes, title: str) -> None:
    style(axes)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=TEXT_COLOR)
    axes.tick_params(which="both", labelsize=9)


def _draw_results(axes: Axes, experiments: Sequence[Experiment], colors: dict[str, str]) -> None:
    """Draws a dot with its interval per model, the best on top."""
    _style(axes, "Accuracy, with its 95 % interval")
    axes.grid(axis="x", color=GRID_COLOR)
    has_several_datasets = len({experiment.record.subject.data_label for experiment in experiments}) > 1
    labels = []
    for row, experiment in enumerate(experiments):
        accuracy, color = experiment.record.accuracy, colors[experiment.model]
        data = f"\n{experiment.record.subject.data_label}" if has_several_datasets else ""
        labels.append(f"{experiment.model}{data}")
        if accuracy.fraction is not None and accuracy.low is not None and accuracy.high is not None:
            axes.plot([accuracy.low, accuracy.high], [row, row], color=color, linewidth=2.4)
            axes.plot([accuracy.fraction], [row], "o", color=color, markersize=7)
            axes.annotate(
                f"{accuracy.fraction:.1%}",
                (accuracy.fraction, row),
                (0, 8),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=color,
            )
    # A folder may have two dollar signs in its name.
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.7)
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))


def _draw_growth(
    axes: Axes,
    title: str,
    costs: Sequence[CostAtSize],
    value: Callable[[CostAtSize], int],
    colors: dict[str, str],
) -> None:
    """Draws one kind of cost of every model against the pixels, both on logarithmic scales."""
    _style(axes, title)
    axes.grid(axis="y", color=GRID_COLOR)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks: dict[int, str] = {}
    for model in dict.fromkeys(cost.model for cost in costs):
        of_model = [cost for cost in costs if cost.model == model]
        pixels = [cost.image_shape[0] * cost.image_shape[1] for cost in of_model]
        values = [value(cost) for cost in of_model]
        ticks |= {
            count: _size_name(*cost.image_shape[:2]) for count, cost in zip(pixels, of_model, strict=True)
        }
        axes.plot(pixels, values, color=colors[model], linewidth=1.8, marker="o", markersize=4, label=model)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, fontsize=9, labelcolor="linecolor", handlelength=1.2)


def _size_name(height: int, width: int) -> str:
    """Returns a short name of an image size: as numbers, the labels of the video sizes would overlap."""
    return {720: "HD", 1080: "Full\nHD", 2160: "4K"}.get(height, f"{width}x{height}")
