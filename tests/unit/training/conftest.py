"""Provides small models, and batches of random rows for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

IMAGE_SHAPE, CLASSES = (8, 8, 1), 3

Batches = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def make_model(strategy: Any) -> Callable[..., keras.Model]:
    """Returns a function that builds a small network under the strategy, with the same weights every time.

    The network outputs probabilities, or logits if `logits` is True.
    """

    def make(*, logits: bool = False, l2: float = 0.0) -> keras.Model:
        keras.utils.set_random_seed(3)
        with strategy.scope():
            return keras.Sequential(
                [
                    keras.Input(IMAGE_SHAPE),
                    keras.layers.Rescaling(1 / 255),
                    keras.layers.Conv2D(
                        4, 3, activation="relu", kernel_regularizer=keras.regularizers.L2(l2)
                    ),
                    keras.layers.Flatten(),
                    keras.layers.Dense(CLASSES, activation=None if logits else "softmax"),
                ]
            )

    return make


@pytest.fixture
def make_batches() -> Callable[[int, int], Batches]:
    """Returns a function that makes random rows: images uint8 [steps, batch, 8, 8, 1], labels int32 [steps, batch]."""

    def make(steps: int, batch: int) -> Batches:
        rng = np.random.default_rng(steps * 1000 + batch)
        images = rng.integers(0, 256, (steps, batch, *IMAGE_SHAPE), np.uint8)
        return images, rng.integers(0, CLASSES, (steps, batch)).astype(np.int32)

    return make
