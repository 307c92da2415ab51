"""What random layers draw is a function of (seed, step, replica, micro-batch, layer) and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from cnnlib.training.state.randomness import find_reseed, find_seed_states
from tests.two_workers import STEPS, draws_of


@pytest.fixture(scope="module")
def draws(strategy: Any) -> np.ndarray:
    """What two layers draw in an uninterrupted run: [layer, step, 3]."""
    return np.array(draws_of(strategy))


def test_every_layer_and_step_draws_something_else(draws: np.ndarray) -> None:
    assert draws.shape == (2, STEPS, 3)
    assert len(np.unique(draws)) == draws.size


def test_restart_in_the_middle_draws_what_the_unbroken_run_draws(strategy: Any, draws: np.ndarray) -> None:
    np.testing.assert_array_equal(draws_of(strategy, first_step=1), draws[:, 1:])


def test_another_seed_draws_something_else(strategy: Any, draws: np.ndarray) -> None:
    assert not np.isclose(draws_of(strategy, seed=1), draws).any()


def test_every_part_of_a_batch_draws_something_else(strategy: Any, draws: np.ndarray) -> None:
    drawn = np.array(draws_of(strategy, micro_batches=2))
    assert len(np.unique(drawn)) == drawn.size == 2 * draws.size
    np.testing.assert_array_equal(
        drawn[:, ::2], draws
    )  # the first micro-batch draws what a whole batch draws


def test_model_that_draws_nothing_is_left_alone(make_model: Callable[..., keras.Model]) -> None:
    model = make_model()
    assert find_seed_states(model) == []
    assert find_reseed(model, seed=0) is None


def test_seeds_of_nested_models_are_found() -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.GaussianNoise(0.1)])
    model.compile(loss="mse", metrics=["mae"])
    assert [state.name for state in find_seed_states(model)] == ["seed_generator_state"] * 2
