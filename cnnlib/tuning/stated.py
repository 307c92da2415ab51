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
from cnnlib.tuning.ranges import Range, apply_values


def check_stated_values(config: TrainConfig, ranges: Sequence[Range], manifest: Manifest) -> None:
    """Checks the values that ranges state: those of a choice, and both ends of the others.

    Raises:
        ConfigError: a batch has more rows than the split.
        ModelError: a model, or an option, works with no stated value of the other ranges.
    """
    rows = manifest.split(config.split).rows
    for value in (each for found in ranges if found.name == "batch_size" for each in found.values):
        if value > rows:
            raise ConfigError(f"batch_size={value} is more than the {rows} rows of {config.split!r}.")
    of_models = [each for each in ranges if each.name == "model" or each.name.startswith("model_options.")]
    for each in of_models:
        for value in each.values:
            _check_in_some_trial(config, each.name, value, of_models, manifest.image_shape)


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
