"""Experiments in, tables for a terminal of 80 columns out, as rich renderables. Prints nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnlib.models.cost_table import CostAtSize
from cnnlib.views.experiments.experiments import Experiment, describe_growth

_NOTHING = "-"
_NUM_TEXT_COLUMNS = 2  # they come before the columns of numbers
_KIB = 2**10


def render_experiments(experiments: Sequence[Experiment], costs: Sequence[CostAtSize]) -> RenderableType:
    """Renders the accuracy and cost of every model, and below them how the costs grow with the image size."""
    results = _new_table("model", "data", "accuracy", "95 % range", "parameters", "MFLOP", "img/s")
    for experiment in experiments:
        results.add_row(*map(Text, _result_cells(experiment)))
    growth = _new_table("model", "image", "parameters", "MFLOP", "activations, KiB")
    previous = ""
    for cost in costs:
        if previous not in ("", cost.model):
            growth.add_section()
        growth.add_row(*map(Text, _cost_cells(cost)))
        previous = cost.model
    return Group(
        Text("Accuracy and cost of each model", style="bold"),
        "",
        results,
        *map(Text, _result_notes(experiments)),
        "",
        Text("Cost by image size", style="bold"),
        "",
        growth,
        *map(Text, _growth_notes(costs)),
    )


def _new_table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="left" if index < _NUM_TEXT_COLUMNS else "right", overflow="fold")
    return table


def _result_cells(experiment: Experiment) -> tuple[str, ...]:
    record, flops = experiment.record, experiment.flops_per_image
    accuracy = record.accuracy
    return (
        experiment.model,
        record.subject.data_label,
        *(_percent(accuracy.fraction), f"{_percent(accuracy.low)}-{_percent(accuracy.high)}"),
        _NOTHING if experiment.parameters is None else f"{experiment.parameters:,}",
        _NOTHING if flops is None else f"{flops / 1e6:,.1f}",
        _NOTHING if experiment.images_per_s is None else f"{experiment.images_per_s:,.0f}",
    )


def _cost_cells(cost: CostAtSize) -> tuple[str, ...]:
    height, width, _ = cost.image_shape
    return (
        cost.model,
        f"{width}x{height}",
        f"{cost.parameters:,}",
        f"{cost.flops_per_image / 1e6:,.1f}",
        f"{cost.activation_bytes / _KIB:,.1f}",
    )


def _result_notes(experiments: Sequence[Experiment]) -> list[str]:
    notes = ["MFLOP: million operations per image; a multiplication and an addition are two."]
    if any(experiment.reports > 1 for experiment in experiments):
        counts = ", ".join(f"{each.model} {each.reports}" for each in experiments if each.reports > 1)
        notes.append(f"The best of several reports, selected on the same rows: {counts}.")
    return notes


def _growth_notes(costs: Sequence[CostAtSize]) -> list[str]:
    small_height, small_width, channels = costs[0].image_shape
    height, width, _ = costs[-1].image_shape
    factor = height * width / (small_height * small_width)
    return [
        f"Counted for {channels} channel. Activations: of all layers for one image, float32.",
        f"From {small_width}x{small_height} to {width}x{height}, {factor:,.0f} times the pixels:",
        *describe_growth(costs),
    ]


def _percent(fraction: float | None) -> str:
    return _NOTHING if fraction is None else f"{100 * fraction:.1f}"
