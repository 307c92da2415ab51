"""Puts the moving average of the weights (Polyak and Juditsky 1992) into a model while it is scored or saved.

The Keras optimizer keeps the average in float32 and updates it once per step:
average = momentum * average + (1 - momentum) * weight, starting from the weights after the first step. All workers hold
the same weights, hence the same average. The moving statistics of batch normalisation are averages already and stay as
they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def averaged_weights(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Puts the averages into the model, and the raw weights back at the end. Does nothing if the run keeps none."""
    if not optimizer.use_ema:
        yield
        return
    raw = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for weight, value in zip(model.trainable_variables, raw, strict=True):
            weight.assign(value)
