"""Recipes are complete configs under known names."""

from __future__ import annotations

import pytest

from cnnlib.config import TrainConfig
from cnnlib.errors import ConfigError
from cnnlib.models.registry import model_names
from cnnlib.recipes import RECIPES, find_recipe


def test_the_recipes_that_were_promised_exist() -> None:
    assert {"seed", "demo", "dnn"} <= set(RECIPES)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipe_says_what_it_is_and_names_a_model_of_ours(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe is RECIPES[name]
    assert recipe.summary.endswith(".")
    assert "\n" not in recipe.summary
    assert recipe.config.model in model_names()


@pytest.mark.parametrize(("name", "model"), [("seed", "seed-cnn"), ("dnn", "dnn")])
def test_recipes_of_the_tutorial_are_the_tutorial(name: str, model: str) -> None:
    assert find_recipe(name).config == TrainConfig(model=model, epochs=7, batch_size=32, learning_rate=1e-3)
    assert find_recipe(name).config.optimizer.name == "adam"


@pytest.mark.parametrize(("name", "measured"), [("seed", 0.9145), ("demo", 0.8982)])
def test_limits_of_a_recipe_are_below_its_measured_accuracy(name: str, measured: float) -> None:
    gates = find_recipe(name).gates
    assert gates is not None
    assert gates.min_accuracy.overall is not None
    assert measured - 0.03 <= gates.min_accuracy.overall < measured - 0.01
    assert (gates.max_drop.overall, gates.baseline) == (0.01, "previous")


def test_demo_trains_on_two_workers() -> None:
    assert find_recipe("demo").config.workers == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sed", r"^Unknown recipe 'sed'\. Did you mean 'seed'\? Known: .*\bdemo, dnn\b.*\bseed\b"),
        ("xyzzy", r"^Unknown recipe 'xyzzy'\. Known: "),
        ("", r"^Unknown recipe ''\. Known: "),
    ],
)
def test_unknown_recipe_names_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_recipe(name)
