"""What each of some workers computes under the real strategy: one process per worker, no Ray.

Run as `python -m tests.two_workers RANK PORT PORT`, or with one port for a worker alone; prints one JSON object:
the weights after each case, and what random layers drew.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from unittest import mock

import numpy as np

from cnnlib.config import OptimizerConfig
from cnnlib.models.runtime import load_tensorflow

BATCH, STEPS, FEATURES, CLASSES = 8, 2, (2, 2, 1), 3
LEARNING_RATE = 0.5
# What is trained with which optimizer. `weights_of` gives the same for any number of workers.
CASES = {
    "plain": OptimizerConfig(name="sgd"),
    "clipped": OptimizerConfig(name="sgd", clip_norm=0.25),
    "clipped adam with decay": OptimizerConfig(name="adam", clip_norm=0.25, weight_decay=0.1),
    "warmed up": OptimizerConfig(name="sgd", schedule="cosine", warmup_epochs=0.5),
    "averaged": OptimizerConfig(name="sgd", ema_momentum=0.75),
}


def make_rows() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [steps, batch, 2, 2, 1] and labels int32 [steps, batch] of the global batches."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (STEPS, BATCH, *FEATURES), np.uint8)
    return images, rng.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32)


def weights_of(
    strategy: Any, config: OptimizerConfig, rank: int = 0, workers: int = 1, steps: int = STEPS
) -> list[list[float]]:
    """Trains a linear model on a worker's part of the rows; returns its weights, flat, and their averages if kept."""
    import keras

    from cnnlib.training.state.ema import averaged_weights
    from cnnlib.training.state.optimizer import build_optimizer

    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(FEATURES),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                keras.layers.Dense(CLASSES),
            ]
        )
        optimizer = build_optimizer(config, LEARNING_RATE, epochs=1, steps_per_epoch=STEPS)
        optimizer.build(model.trainable_variables)
    train_call = _build_call(strategy, model, optimizer, seed=0)
    images, labels = make_rows()
    own = slice(rank * BATCH // workers, (rank + 1) * BATCH // workers)
    train_call(images[:steps, own], labels[:steps, own])
    raw = model.get_weights()
    with averaged_weights(model, optimizer):
        averages = model.get_weights() if config.ema_momentum else []
    return [weight.ravel().tolist() for weight in [*raw, *averages]]


def draws_of(
    strategy: Any,
    rank: int = 0,
    workers: int = 1,
    *,
    seed: int = 0,
    first_step: int = 0,
    steps: int = STEPS,
    parts: int = 1,
) -> list[list[list[float]]]:
    """Trains a model with two random layers; returns what this worker's draw: [layer, step x part, 3]."""
    import keras

    class Noise(keras.layers.Layer):
        """Adds random numbers, and remembers the last of them."""

        def build(self, shape: Any) -> None:
            self.seed_generator = keras.random.SeedGenerator(1)
            self.drawn = self.add_weight(shape=((steps - first_step) * parts, 3), trainable=False)

        def call(self, inputs: Any) -> Any:
            noise = keras.random.uniform((1, 3), seed=self.seed_generator)
            self.drawn.assign(keras.ops.concatenate([self.drawn[1:], noise]))
            return inputs + noise

    with strategy.scope():
        layers = [keras.layers.Flatten(), keras.layers.Dense(CLASSES), Noise(), Noise()]
        model = keras.Sequential([keras.Input(FEATURES), *layers])
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(first_step)
    train_call = _build_call(strategy, model, optimizer, seed=seed, micro_batches=parts)
    images, labels = make_rows()
    train_call(images[first_step:steps, : BATCH // workers], labels[first_step:steps, : BATCH // workers])
    return [layer.drawn.numpy().tolist() for layer in layers[2:]]


def _build_call(strategy: Any, model: Any, optimizer: Any, **options: int) -> Any:
    from cnnlib.training.step import build_train_call

    return build_train_call(
        model=model,
        optimizer=optimizer,
        strategy=strategy,
        batch_size=BATCH,
        image_shape=FEATURES,
        from_logits=True,
        jit_compile=False,
        **options,
    )


def precision_of(strategy: Any, *, able: bool) -> str:
    """The precision that `auto` comes to on workers that compute in bfloat16 or do not, as this one is `able`."""
    from cnnlib.training import precision

    with mock.patch.object(precision, "computes_bfloat16", return_value=able):
        return precision.choose_precision("auto", strategy)


def main(rank: int, ports: list[str]) -> dict[str, Any]:
    """One worker's life."""
    from cnnlib.training import strategy as strategies
    from cnnlib.training.ray.backend import set_tf_config

    set_tf_config([f"127.0.0.1:{port}" for port in ports], rank)
    load_tensorflow(1)
    strategy = strategies.build_strategy()
    return {
        "draws": draws_of(strategy, rank, len(ports)),
        "precisions": [precision_of(strategy, able=able) for able in (True, rank == 0, False)],
        **{name: weights_of(strategy, config, rank, len(ports)) for name, config in CASES.items()},
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2:])), flush=True)  # noqa: T201
    os._exit(0)  # neither worker waits for the other's farewell
