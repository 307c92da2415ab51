"""Named configs: each says what it costs and what it reaches.

A recipe is a complete config; flags override its fields. The accuracies are measured: see docs/benchmarks/.
"""

from __future__ import annotations

from typing import NamedTuple

from cnnlib.config import OptimizerConfig, TrainConfig
from cnnlib.errors import ConfigError, nearest


class Recipe(NamedTuple):
    """A config and one line about it."""

    summary: str
    config: TrainConfig


RECIPES: dict[str, Recipe] = {
    "seed": Recipe(
        "The tutorial: its CNN, 7 epochs of batch 32 with adam.",
        TrainConfig(model="seed-cnn", epochs=7, batch_size=32, learning_rate=1e-3),
    ),
    "demo": Recipe(
        "What `make demo` runs: small-cnn on two workers, 2 epochs of half the images each, minutes on 2 cores.",
        TrainConfig(
            model="small-cnn",
            epochs=2,
            steps_per_epoch=468,
            batch_size=64,
            learning_rate=2e-3,
            workers=2,
            optimizer=OptimizerConfig(schedule="cosine"),
        ),
    ),
    "dnn": Recipe(
        "The tutorial's challenge: its dense network, 7 epochs of batch 32 with adam.",
        TrainConfig(model="dnn", epochs=7, batch_size=32, learning_rate=1e-3),
    ),
}


def find_recipe(name: str) -> Recipe:
    """Returns the recipe of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in RECIPES:
        raise ConfigError(f"Unknown recipe {name!r}. {nearest(name, RECIPES)}")
    return RECIPES[name]
