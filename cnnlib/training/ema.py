"""The moving average of the weights (Polyak and Juditsky 1992): what is scored and saved, not what is trained on.

Keras's optimizer keeps it, in float32, one step of it per update: average = momentum * average + (1 - momentum) *
weight, beginning with the first step's weights. All workers hold the same weights, hence the same average. The moving
statistics of batch normalisation are an average already and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def averaged_weights(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Puts the averages into the model, and the raw weights back at the end; nothing where none are kept."""
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
