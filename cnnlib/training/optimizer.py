"""OptimizerConfig -> a Keras optimizer, and the learning rate's way over the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from cnnlib.config import OptimizerConfig


def build_optimizer(
    config: OptimizerConfig, learning_rate: float, *, epochs: int, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Builds the optimizer, with Keras's defaults for what the config does not say.

    Args:
        config: which optimizer and schedule.
        learning_rate: where the schedule begins, after the warm-up.
        epochs: of the whole run, over which a cosine goes.
        steps_per_epoch: steps of one.
    """
    rate = _build_rate(config, learning_rate, epochs, steps_per_epoch)
    average = {} if config.ema_momentum is None else {"use_ema": True, "ema_momentum": config.ema_momentum}
    optimizer = _build(config, rate, **average)
    if config.clip_norm is not None:
        _clip_after_all_reduce(optimizer, config.clip_norm)
    return optimizer


def build_plain_optimizer(config: OptimizerConfig, learning_rate: float) -> keras.optimizers.Optimizer:
    """Builds one of the same kind, of Keras's own parts alone: for whoever opens the model without this project."""
    return _build(config, learning_rate)


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A linear warm-up, then another schedule.

    Step t of the first w has the rate (t + 1) / w * learning_rate (Goyal et al. 2017, section 2.2, from 0), so
    no step is lost to a rate of 0.
    """

    def __init__(self, learning_rate: float, warmup_steps: int, then: Callable[[Any], Any] | None) -> None:
        """`then` is given the steps since the run began; None stays at `learning_rate`."""
        super().__init__()
        self._learning_rate = learning_rate
        self._warmup_steps = warmup_steps
        self._then = then

    def __call__(self, step: Any) -> Any:
        """The rate of a step, from 0."""
        step = tf.cast(step, tf.float32)
        warm = self._learning_rate * (step + 1) / self._warmup_steps
        after = self._learning_rate if self._then is None else self._then(step)
        return tf.where(step < self._warmup_steps, warm, after)


def _build_rate(config: OptimizerConfig, learning_rate: float, epochs: int, steps_per_epoch: int) -> Any:
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    then: Callable[[Any], Any] | None = None
    if config.schedule == "cosine":
        cosine = keras.optimizers.schedules.CosineDecay(
            learning_rate, decay_steps=max(epochs * steps_per_epoch - warmup_steps, 1)
        )
        then = (lambda step: cosine(tf.maximum(step - warmup_steps, 0))) if warmup_steps else cosine
    elif config.schedule == "step":
        then = keras.optimizers.schedules.ExponentialDecay(
            learning_rate,
            decay_steps=config.step_every_epochs * steps_per_epoch,
            decay_rate=config.step_factor,
            staircase=True,
        )
    if warmup_steps:
        return WarmUp(learning_rate, warmup_steps, then)
    return learning_rate if then is None else then


def _build(config: OptimizerConfig, rate: Any, **options: Any) -> keras.optimizers.Optimizer:
    if config.weight_decay:
        options["weight_decay"] = config.weight_decay
    if config.name == "adam":
        return keras.optimizers.Adam(rate, **options)
    if config.name == "adamw":
        return keras.optimizers.AdamW(rate, **options)
    if config.name == "sgd":
        return keras.optimizers.SGD(rate, momentum=config.momentum, **options)
    return keras.optimizers.RMSprop(rate, momentum=config.momentum, **options)


def _clip_after_all_reduce(optimizer: keras.optimizers.Optimizer, clip_norm: float) -> None:
    """Scales the gradient of the global batch down to a norm (Pascanu et al. 2013, algorithm 1).

    Keras's own `global_clipnorm` clips what each replica gives, before it is summed: another number with every
    number of workers. There is no public place between its all-reduce and its update, hence the internal one,
    of the Keras version that pyproject.toml pins; a test with two workers fails when it moves.
    """
    all_reduce = optimizer._all_reduce_sum_gradients

    def all_reduce_and_clip(grads_and_vars: Any) -> list[tuple[tf.Tensor, Any]]:
        gradients, variables = zip(*all_reduce(grads_and_vars), strict=True)
        clipped, _ = tf.clip_by_global_norm(gradients, clip_norm)
        return list(zip(clipped, variables, strict=True))

    optimizer._all_reduce_sum_gradients = all_reduce_and_clip
