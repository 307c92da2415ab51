"""OptimizerConfig -> a Keras optimizer."""

from __future__ import annotations

import keras

from cnnlib.config import OptimizerConfig


def build_optimizer(config: OptimizerConfig, learning_rate: float) -> keras.optimizers.Optimizer:
    """Builds the optimizer, with Keras's defaults for what the config does not say."""
    decay = {"weight_decay": config.weight_decay} if config.weight_decay else {}
    if config.name == "adam":
        return keras.optimizers.Adam(learning_rate, **decay)
    if config.name == "adamw":
        return keras.optimizers.AdamW(learning_rate, **decay)
    if config.name == "sgd":
        return keras.optimizers.SGD(learning_rate, momentum=config.momentum, **decay)
    return keras.optimizers.RMSprop(learning_rate, momentum=config.momentum, **decay)
