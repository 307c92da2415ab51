"""The registered models in, tables for a terminal of 80 columns out, as rich renderables. Prints nothing."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnlib.model_options import format_option
from cnnlib.models.zoo.entries import LISTED_CLASSES, RegisteredModel

_NOTHING = "-"


def render_models(models: Mapping[str, RegisteredModel]) -> RenderableType:
    """Renders what every model costs and has reached, and below that its options with their defaults."""
    costs = _new_table()
    for header in ("model", "image"):
        costs.add_column(header)
    for header in ("parameters", "MFLOP", "accuracy"):
        costs.add_column(header, justify="right")
    options = _new_table()
    options.add_column("model")
    options.add_column("what it is, and its flags with their defaults", overflow="fold")
    for name, model in models.items():
        costs.add_row(*map(Text, (name, *_cost_cells(model))))
        options.add_row(Text(name), Text(f"{model.summary}\n{_flags(model)}"))
    return Group(
        Text("Models", style="bold"),
        "",
        costs,
        *map(Text, _notes(models)),
        "",
        Text("Options of each model", style="bold"),
        "",
        options,
        Text("A model of your own, --model package.module:function, gets --model.X as its argument X."),
    )


def _new_table() -> Table:
    return Table(box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)


def _cost_cells(model: RegisteredModel) -> tuple[str, ...]:
    height, width, channels = model.image_shape
    return (
        f"{width}x{height}x{channels}",
        f"{model.parameters:,}",
        f"{model.flops_per_image / 1e6:,.1f}",
        _NOTHING if model.reached is None else f"{model.reached.accuracy:.2%}",
    )


def _notes(models: Mapping[str, RegisteredModel]) -> list[str]:
    """Returns what the numbers mean, and under which recipe each accuracy was reached."""
    notes = [f"MFLOP: of one prediction, with {LISTED_CLASSES} classes. Accuracy: - is not measured."]
    for name, model in models.items():
        if model.reached is not None:
            reached = model.reached
            notes.append(f"{name}: recipe {reached.recipe} on {reached.data}, see {reached.source}.")
    return notes


def _flags(model: RegisteredModel) -> str:
    return " ".join(
        f"--model.{name.replace('_', '-')} {format_option(value)}" for name, value in model.defaults().items()
    )
