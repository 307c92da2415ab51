"""Builds a Keras optimizer, with the schedule of its learning rate, from an `OptimizerConfig`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import keras
import tensorflow as tf

from cnnlib.config import OptimizerConfig

Schedule = Callable[["tf.Tensor | int"], tf.Tensor]
"""A function of the step since the start of the run, from 0, that returns the learning rate, float32 []."""


def build_optimizer(
    config: OptimizerConfig, learning_rate: float, *, epochs: int, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Builds the optimizer of a run. What the config does not set has the default of Keras.

    Args:
        config: the optimizer and its schedule.
        learning_rate: the rate at the start of the schedule, after the warm-up.
        epochs: epochs of the whole run, over which a cosine schedule falls.
        steps_per_epoch: steps of one epoch.
    """
    rate = _build_rate(config, learning_rate, epochs, steps_per_epoch)
    optimizer = _build(config, rate, config.ema_momentum)
    if config.clip_norm is not None:
        _clip_after_all_reduce(optimizer, config.clip_norm)
    return optimizer


def decay_kernels_only(optimizer: keras.optimizers.Optimizer, weights: Sequence[keras.Variable]) -> None:
    """Takes weights with one axis or none out of an optimizer's weight decay. Call it before the optimizer is built."""
    optimizer.exclude_from_weight_decay(var_list=[each for each in weights if len(each.shape) <= 1])


def build_plain_optimizer(config: OptimizerConfig, learning_rate: float) -> keras.optimizers.Optimizer:
    """Builds the same optimizer without schedule, average and clipping, for a model file that plain Keras opens."""
    return _build(config, learning_rate)


def set_rate(optimizer: keras.optimizers.Optimizer, learning_rate: float) -> None:
    """Sets the rate of an optimizer without schedule, which is one of the variables that a checkpoint restores."""
    if not isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        optimizer.learning_rate = learning_rate


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A linear warm-up, then another schedule.

    Step t of the first w steps, from 0, has the rate (t + 1) / w * learning_rate (Goyal et al. 2017, section 2.2), so
    that no step has a rate of 0.
    """

    def __init__(self, learning_rate: float, warmup_steps: int, then: Schedule | None) -> None:
        """Takes the schedule `then`, which counts from the start of the run; None keeps `learning_rate`."""
        super().__init__()
        self._learning_rate = learning_rate
        self._warmup_steps = warmup_steps
        self._then = then

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns the rate of a step, from 0: float32 []."""
        step = tf.cast(step, tf.float32)
        warm = self._learning_rate * (step + 1) / self._warmup_steps
        after = self._learning_rate if self._then is None else self._then(step)
        return tf.where(step < self._warmup_steps, warm, after)


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """One cycle (Smith and Topin 2018), as PyTorch's OneCycleLR computes it, without cycling the momentum.

    The rate rises from 1/25 of its peak in the first 30 % of the steps, and then falls to 1/250,000 of it. Both parts
    are half a period of a cosine.
    """

    _RISE, _START, _END = 0.3, 1 / 25, 1 / 250_000

    def __init__(self, peak: float, steps: int) -> None:
        """Takes the highest rate, and the steps of the whole run."""
        super().__init__()
        self._peak = peak
        self._last = float(max(steps - 1, 1))
        self._top = max(self._RISE * steps - 1, 1e-6)

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns the rate of a step, from 0: float32 []."""
        step = tf.cast(step, tf.float32)
        rising = self._between(self._START, 1.0, step / self._top)
        falling = self._between(1.0, self._END, (step - self._top) / max(self._last - self._top, 1e-6))
        return self._peak * tf.where(step <= self._top, rising, falling)

    @staticmethod
    def _between(start: float, end: float, done: tf.Tensor) -> tf.Tensor:
        return end + (start - end) / 2 * (1 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0)))


def _build_rate(
    config: OptimizerConfig, learning_rate: float, epochs: int, steps_per_epoch: int
) -> float | Schedule:
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    then: Schedule | None = None
    if config.schedule == "cosine":
        cosine = keras.optimizers.schedules.CosineDecay(
            learning_rate, decay_steps=max(epochs * steps_per_epoch - warmup_steps, 1)
        )
        then = (lambda step: cosine(tf.maximum(step - warmup_steps, 0))) if warmup_steps else cosine
    elif config.schedule == "one-cycle":
        return OneCycle(learning_rate, epochs * steps_per_epoch)
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


def _build(
    config: OptimizerConfig, rate: float | Schedule, ema_momentum: float | None = None
) -> keras.optimizers.Optimizer:
    options: dict[str, float | bool] = {}
    # A decay of 0 is given to AdamW, which would otherwise decay by 0.004; the others then skip the computation.
    if config.weight_decay or config.name == "adamw":
        options["weight_decay"] = config.weight_decay
    if ema_momentum is not None:
        options |= {"use_ema": True, "ema_momentum": ema_momentum}
    if config.name == "adam":
        return keras.optimizers.Adam(rate, **options)
    if config.name == "adamw":
        return keras.optimizers.AdamW(rate, **options)
    if config.name == "sgd":
        return keras.optimizers.SGD(rate, momentum=config.momentum, **options)
    return keras.optimizers.RMSprop(rate, momentum=config.momentum, **options)


def _clip_after_all_reduce(optimizer: keras.optimizers.Optimizer, clip_norm: float) -> None:
    """Makes the optimizer scale the gradient of the global batch down to a norm (Pascanu et al. 2013, algorithm 1).

    Keras's own `global_clipnorm` clips the gradient of each replica before the all-reduce, so that the result depends
    on the number of workers. Keras has no public hook between its all-reduce and its update. This uses an internal
    method of the Keras version that pyproject.toml pins; a test with two workers fails when it moves.
    """
    all_reduce = optimizer._all_reduce_sum_gradients

    def all_reduce_and_clip(
        grads_and_vars: Iterable[tuple[tf.Tensor, keras.Variable]],
    ) -> list[tuple[tf.Tensor, keras.Variable]]:
        gradients, variables = zip(*all_reduce(grads_and_vars), strict=True)
        clipped, _ = tf.clip_by_global_norm(gradients, clip_norm)
        return list(zip(clipped, variables, strict=True))

    optimizer._all_reduce_sum_gradients = all_reduce_and_clip
