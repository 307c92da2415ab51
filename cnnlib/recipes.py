"""Holds the recipes: named, complete training configs. Flags override the fields of a recipe.

The accuracy that a recipe reaches is measured: see docs/benchmarks/. The limits of its gate, which
`jobs.evaluate --gate recipe` applies, are a few percentage points below that accuracy, because another seed changes it
by some tenths of a point.
"""

from __future__ import annotations

from typing import NamedTuple

from cnnlib.config import OptimizerConfig, TrainConfig
from cnnlib.errors import ConfigError, nearest
from cnnlib.gate_config import GateConfig, Limits


class Recipe(NamedTuple):
    """A config, one line that describes it, and the gate of its models on the test split; None: no gate."""

    summary: str
    config: TrainConfig
    gates: GateConfig | None = None


RECIPES: dict[str, Recipe] = {
    "seed": Recipe(
        "The tutorial: its CNN, 7 epochs of batch 32 with adam.",
        TrainConfig(model="seed-cnn", epochs=7, batch_size=32, learning_rate=1e-3),
        GateConfig(
            min_accuracy=Limits(overall=0.90, every_class=0.60),
            max_drop=Limits(overall=0.01),
        ),
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
        GateConfig(
            min_accuracy=Limits(overall=0.87, every_class=0.50),
            max_drop=Limits(overall=0.01),
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
        ConfigError: there is no such recipe; the message names the nearest.
    """
    if name not in RECIPES:
        raise ConfigError(f"Unknown recipe {name!r}. {nearest(name, RECIPES)}")
    return RECIPES[name]
