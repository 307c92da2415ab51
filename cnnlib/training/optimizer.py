"""OptimizerConfig -> a Keras optimizer."""

from __future__ import annotations

import keras

from cnnlib.config import OptimizerConfig


def build_optimizer(
    config: OptimizerConfig, learning_rate: float, total_steps: int
) -> keras.optimizers.Optimizer:
    """Builds the optimizer, with Keras's defaults for what the config does not say.

    Args:
        config: which optimizer and schedule.
        learning_rate: of the first step.
        total_steps: steps of the whole run, over which a schedule goes.
    """
    rate = learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps=total_steps)
    decay = {"weight_decay": config.weight_decay} if config.weight_decay else {}
    if config.name == "adam":
        return keras.optimizers.Adam(rate, **decay)
    if config.name == "adamw":
        return keras.optimizers.AdamW(rate, **decay)
    if config.name == "sgd":
        return keras.optimizers.SGD(rate, momentum=config.momentum, **decay)
    return keras.optimizers.RMSprop(rate, momentum=config.momentum, **decay)
