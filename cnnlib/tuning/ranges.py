"""The values that a search may give to the fields of a recipe: a text in, a checked range out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from cnnlib.config import TrainConfig
from cnnlib.config_fields import convert, field_name, field_type, flag_name, replace_fields
from cnnlib.errors import ConfigError

_RATIO = 10.0
Kind = Literal["choice", "whole", "uniform", "log"]
# They say how a training runs, not what it computes, or belong to the search itself.
_FIXED = ("epochs", "seed", "workers", "min_workers", "gpus_per_worker", "split", "validation_split")
_FIXED_GROUPS = ("cluster", "checkpoint", "loop")


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values of one field.

    Attributes:
        name: the dotted name of the field's flag, with underscores: `model.depth`, not `model_options.depth`.
        kind: choice: one of `values`. Else a number from the first to the last of them: whole numbers, all numbers
            with equal probability, or with equal probability on a log scale.
    """

    name: str
    kind: Kind
    values: tuple[Any, ...]


def parse_ranges(texts: Sequence[str], config: TrainConfig) -> tuple[Range, ...]:
    """Parses ranges such as `learning-rate=1e-4..1e-1`, `augment.shift=0..4` and `optimizer.name=adam,sgd`.

    Fractions between two positive ends, of which one is ten times the other or more, are drawn on a log scale.

    Args:
        config: the recipe.

    Raises:
        ConfigError: a text is no range, names a field that is not there or cannot be searched, a value that it cannot
            have, or a field twice.
    """
    ranges = tuple(_parse(text, config) for text in texts)
    names = [each.name for each in ranges]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"Two ranges for {', '.join(twice)}. Expected one for each field.")
    if not ranges:
        raise ConfigError("There is nothing to search. Expected --range NAME=FROM..TO or NAME=A,B.")
    return ranges


def own_values(ranges: Sequence[Range], config: TrainConfig) -> dict[str, Any] | None:
    """Returns the recipe's own values of the fields that are searched; None if one of them lies outside its range."""
    found = {}
    for each in ranges:
        value = config
        for part in field_name(each.name).split("."):
            value = getattr(value, part)
        number: Any = value
        if each.kind == "choice":
            inside = value in each.values
        else:
            inside = number is not None and each.values[0] <= number <= each.values[-1]
        if not inside:
            return None
        found[each.name] = value
    return found


def apply_values(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """Returns the recipe with other values.

    Raises:
        ConfigError: they cannot work together.
    """
    return replace_fields(config, values)


def _parse(text: str, config: TrainConfig) -> Range:
    name, equals, stated = text.partition("=")
    name = flag_name(name.strip())
    if not equals or not stated.strip():
        raise ConfigError(f"{text!r} is no range. Expected NAME=FROM..TO or NAME=A,B.")
    if name in _FIXED or name.partition(".")[0] in _FIXED_GROUPS:
        raise ConfigError(
            f"{name} cannot be searched: it does not change what a training computes in a given number of epochs."
        )
    if "..." in stated:  # 1e-4...1e-1 would go to .1e-1
        raise ConfigError(f"{text!r} has three dots. Expected two: {name}=FROM..TO.")
    hint = field_type(config, name)
    first, dots, last = stated.partition("..")
    if not dots:
        values = tuple(convert(each.strip(), hint, name) for each in stated.split(","))
        if len(set(values)) < len(values):
            raise ConfigError(f"{text!r} has a value twice.")
        for value in values:
            replace_fields(config, {name: value})
        return Range(name=name, kind="choice", values=values)
    kinds = [each for each in get_args(hint) or (hint,) if each in (int, float)]
    if not kinds or get_origin(hint) is Literal:
        raise ConfigError(f"{name} is no number. Expected values, such as {name}=A,B. Received {stated!r}.")
    low, high = (convert(each.strip(), kinds[0], name) for each in (first, last))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(
            f"{text!r} goes from {low} to {high}. Expected two finite numbers, the smaller one first."
        )
    for value in (low, high):
        replace_fields(config, {name: value})
    if kinds[0] is int:
        return Range(name=name, kind="whole", values=(low, high))
    return Range(name=name, kind="log" if low > 0 and high / low >= _RATIO else "uniform", values=(low, high))
