"""Checks before a search what would let trials fail: values that no model of the search, or the data, can have."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from cnnlib.config import TrainConfig
from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import CnnlibError, ConfigError
from cnnlib.models.registry import check_model
from cnnlib.shapes import ImageShape
from cnnlib.tuning.ranges import Range, apply_values, own_values

_MOST_LOOKED_AT, _SHOWN = 1000, 6


def check_stated_values(config: TrainConfig, ranges: Sequence[Range], manifest: Manifest) -> None:
    """Checks the values that ranges state: those of a choice, both ends of the others, and whole numbers between them.

    Raises:
        ConfigError: a batch has more rows than the split, or a whole number within a range can be in no trial.
        ModelError: a model, or an option, works with no stated value of the other ranges.
    """
    rows = manifest.split(config.split).rows
    for value in (each for found in ranges if found.name == "batch_size" for each in found.values):
        if value > rows:
            raise ConfigError(f"batch_size={value} is more than the {rows} rows of {config.split!r}.")
    of_models = [each for each in ranges if each.name == "model" or each.name.startswith("model.")]
    for each in of_models:
        for value in each.values:
            _check_in_some_trial(config, each.name, value, of_models, manifest.image_shape)
    for each in ranges:
        if each.kind == "whole":
            _check_between(config, each, of_models if each in of_models else [each], manifest.image_shape)


def find_trial(config: TrainConfig, ranges: Sequence[Range], image_shape: ImageShape) -> TrainConfig | None:
    """Returns the config of a trial: that with the recipe's own values, else with stated values that go together.

    Returns:
        None: no stated values go together; those between them may.
    """
    own = own_values(ranges, config)
    stated = (
        dict(zip((each.name for each in ranges), values, strict=True))
        for values in itertools.product(*(each.values for each in ranges))
    )
    for values in itertools.chain([] if own is None else [own], stated):
        try:
            trial = apply_values(config, values)
            check_model(trial.model, trial.model_options, image_shape)
        except CnnlibError:
            continue
        return trial
    return None


def _check_in_some_trial(
    config: TrainConfig, name: str, value: Any, ranges: Sequence[Range], image_shape: ImageShape
) -> None:
    others = [each for each in ranges if each.name != name]
    problem: CnnlibError | None = None
    for values in itertools.product(*(each.values for each in others)):
        drawn = dict(zip((each.name for each in others), values, strict=True))
        try:
            trial = apply_values(config, {**drawn, name: value})
            check_model(trial.model, trial.model_options, image_shape)
        except CnnlibError as err:
            problem = problem or err
            continue
        return
    if problem is not None:
        raise problem


def _check_between(
    config: TrainConfig, found: Range, ranges: Sequence[Range], image_shape: ImageShape
) -> None:
    """Checks a range of whole numbers: batches, for example, must divide by the workers, and depths are 6n+2."""
    first, last = found.values
    values = range(first, min(last, first + _MOST_LOOKED_AT) + 1)
    problems: dict[int, CnnlibError] = {}
    for value in values:
        try:
            _check_in_some_trial(config, found.name, value, ranges, image_shape)
        except CnnlibError as err:
            problems[value] = err
    if not problems:
        return
    value, problem = next(iter(problems.items()))
    good = [str(each) for each in values if each not in problems]
    shown = ",".join(good[:_SHOWN]) + (",…" if len(good) > _SHOWN else "")
    raise ConfigError(
        f"{found.name}={first}..{last} holds numbers that no trial can have, such as {value}: {problem} Give those "
        f"that can be: {found.name}={shown}"
    )
