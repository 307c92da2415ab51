"""A model whose training diverges if the learning rate is high: a deep linear network.

Nothing bounds its gradients.
"""

from __future__ import annotations

import keras


def build(image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Builds it; with plain SGD its loss becomes NaN within an epoch at a rate of 0.1, and not at 0.05."""
    layers = [keras.layers.Dense(16, use_bias=False) for _ in range(6)]
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            *layers,
            keras.layers.Dense(num_classes),
        ]
    )
