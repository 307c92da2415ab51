"""Tests that every optimizer is Keras's own, and the formulas of weight decay, schedules and clipping."""

from __future__ import annotations

import math
from typing import Any, get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnnlib.config import OptimizerConfig, OptimizerName
from cnnlib.training.state.optimizer import (
    build_optimizer,
    build_plain_optimizer,
    decay_kernels_only,
    set_rate,
)
from tests.two_workers import LEARNING_RATE, weights_of

pytestmark = pytest.mark.usefixtures("strategy")

CLASSES = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}

EPOCHS, STEPS = 4, 10


def build(config: OptimizerConfig, learning_rate: float = 0.5) -> keras.optimizers.Optimizer:
    return build_optimizer(config, learning_rate, epochs=EPOCHS, steps_per_epoch=STEPS)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_optimizer_is_keras_own_with_its_defaults_and_no_decay(name: OptimizerName) -> None:
    options = {"weight_decay": 0.0} if name == "adamw" else {}  # Keras's own default of AdamW is 0.004
    for built in (build(OptimizerConfig(name=name)), build_plain_optimizer(OptimizerConfig(name=name), 0.5)):
        assert type(built) is CLASSES[name]
        assert built.get_config() == CLASSES[name](0.5, name=built.name, **options).get_config()
        assert float(built.learning_rate.numpy()) == pytest.approx(0.5)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_weight_decay_is_decoupled_from_the_gradient(name: OptimizerName) -> None:
    """A step with decay is the step without it from weights that were first shrunk by rate x decay."""
    rate, decay = 0.5, 0.25
    start, gradient = np.array([1.0, -2.0, 4.0], np.float32), np.array([0.5, 0.0, -1.0], np.float32)
    with_decay = keras.Variable(start)
    build(OptimizerConfig(name=name, weight_decay=decay), rate).apply([tf.constant(gradient)], [with_decay])
    without = keras.Variable(start * (1 - rate * decay))
    CLASSES[name](rate, **({"weight_decay": 0.0} if name == "adamw" else {})).apply(
        [tf.constant(gradient)], [without]
    )
    np.testing.assert_allclose(with_decay.numpy(), without.numpy(), rtol=1e-6)
    # A weight without a gradient only decays.
    assert with_decay.numpy()[1] == pytest.approx(-2.0 * (1 - rate * decay))


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_weight_decay_of_0_decays_nothing(name: OptimizerName) -> None:
    weight = keras.Variable(np.array([4.0, -2.0], np.float32))
    build(OptimizerConfig(name=name, weight_decay=0.0)).apply([tf.zeros(2)], [weight])
    assert weight.numpy().tolist() == [4.0, -2.0]


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_momentum_reaches_the_optimizers_that_have_it(name: OptimizerName) -> None:
    assert build(OptimizerConfig(name=name, momentum=0.75)).momentum == 0.75


def constant(step: int, _: int) -> float:
    return 1.0


def cosine(step: int, warmup: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (EPOCHS * STEPS - warmup)))


def one_cycle(step: int, _: int) -> float:
    # https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html, with its defaults
    total = EPOCHS * STEPS
    top = 0.3 * total - 1
    low, high, done = (
        (1 / 25, 1.0, step / top) if step <= top else (1.0, 4e-6, (step - top) / (total - 1 - top))
    )
    return high + (low - high) / 2 * (1 + math.cos(math.pi * done))


def falls(step: int, _: int) -> float:
    return 0.2 ** (step // (2 * STEPS))  # step_every_epochs=2, step_factor=0.2


@pytest.mark.parametrize("warmup_epochs", [0.0, 0.5, 1.2])
@pytest.mark.parametrize(
    ("schedule", "formula"), [("constant", constant), ("cosine", cosine), ("step", falls)]
)
def test_learning_rate_follows_its_formula(schedule: Any, formula: Any, warmup_epochs: float) -> None:
    config = OptimizerConfig(
        schedule=schedule, step_every_epochs=2, step_factor=0.2, warmup_epochs=warmup_epochs
    )
    built, warmup = build(config), round(warmup_epochs * STEPS)
    for step in (0, 1, 4, 5, 6, 11, 12, 19, 20, 21, 39):
        built.iterations.assign(step)
        expected = 0.5 * ((step + 1) / warmup if step < warmup else formula(step, warmup))
        assert float(built.learning_rate) == pytest.approx(expected, rel=1e-5, abs=1e-7), step


def test_clipped_gradient_has_the_norm_and_keeps_its_direction(strategy: Any) -> None:
    def moved(clip_norm: float | None) -> np.ndarray:
        """Returns the gradient of one step, as SGD applied it."""
        config = OptimizerConfig(name="sgd", clip_norm=clip_norm)
        start, end = (np.concatenate(weights_of(strategy, config, steps=steps)) for steps in (0, 1))
        return (start - end) / LEARNING_RATE

    gradient = moved(None)
    norm = float(np.linalg.norm(gradient))
    np.testing.assert_allclose(moved(norm / 4), gradient / 4, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(moved(norm * 2), gradient, rtol=0, atol=1e-6)  # a shorter one stays as it is


@pytest.mark.parametrize(("schedule", "expected"), [("constant", 0.125), ("cosine", 0.5)])
def test_a_rate_is_set_where_no_schedule_has_it(schedule: Any, expected: float) -> None:
    optimizer = build(OptimizerConfig(schedule=schedule))
    set_rate(optimizer, 0.125)
    assert float(optimizer.learning_rate.numpy()) == pytest.approx(expected)


def test_one_cycle_rises_peaks_and_ends_low() -> None:
    built = build(OptimizerConfig(schedule="one-cycle"))
    rates = []
    for step in range(EPOCHS * STEPS):
        built.iterations.assign(step)
        rates.append(float(built.learning_rate))
    expected = [0.5 * one_cycle(step, 0) for step in range(EPOCHS * STEPS)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-7)
    assert int(np.argmax(rates)) == 11
    assert max(rates) == pytest.approx(0.5)
    assert (rates[0], rates[-1]) == (pytest.approx(0.02), pytest.approx(2e-6, abs=1e-6))


def test_a_run_of_few_steps_has_a_cycle_too() -> None:
    for epochs, steps in ((1, 1), (1, 2), (1, 3)):
        optimizer = build_optimizer(
            OptimizerConfig(schedule="one-cycle"), 0.5, epochs=epochs, steps_per_epoch=steps
        )
        for step in range(steps):
            optimizer.iterations.assign(step)
            assert 0 <= float(optimizer.learning_rate) <= 0.5


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_decay_of_kernels_leaves_biases_and_norms_alone(name: OptimizerName) -> None:
    kernel, bias = (
        keras.Variable(np.full((2, 2), 4.0, np.float32)),
        keras.Variable(np.full(2, 4.0, np.float32)),
    )
    optimizer = build(OptimizerConfig(name=name, weight_decay=0.5))
    decay_kernels_only(optimizer, [kernel, bias])
    optimizer.apply([tf.zeros((2, 2)), tf.zeros(2)], [kernel, bias])
    assert bias.numpy().tolist() == [4.0, 4.0]
    np.testing.assert_allclose(kernel.numpy(), 4.0 - 0.5 * 0.5 * 4.0)
