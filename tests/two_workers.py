"""Trains small models as one of several workers under the real strategy: one process per worker, without Ray.

Run as `python -m tests.two_workers RANK PORT PORT`, or with one port for a single worker. Prints one JSON object:
the weights after each case, the random numbers that the layers drew, and the chosen precisions.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from unittest import mock

import numpy as np

from cnnlib.config import AugmentConfig, OptimizerConfig
from cnnlib.models.runtime import load_tensorflow

BATCH, STEPS, FEATURES, CLASSES = 8, 2, (2, 2, 1), 3
LEARNING_RATE = 0.5
# The optimizer of each case. `weights_of` returns the same weights for any number of workers.
CASES = {
    "plain": OptimizerConfig(name="sgd"),
    "clipped": OptimizerConfig(name="sgd", clip_norm=0.25),
    "clipped adam with decay": OptimizerConfig(name="adam", clip_norm=0.25, weight_decay=0.1),
    "layer rates": OptimizerConfig(name="adam", clip_norm=0.25, weight_decay=0.1, layer_decay=0.5),
    "warmed up": OptimizerConfig(name="sgd", schedule="cosine", warmup_epochs=0.5),
    "averaged": OptimizerConfig(name="sgd", ema_momentum=0.75),
    "augmented": OptimizerConfig(name="sgd"),
}
# Of images of 2x2 pixels.
AUGMENT = AugmentConfig(flip="both", shift=1, rotate=30, rand_operations=2, erase=0.5, mixup=1.0, cutmix=1.0)


def make_rows() -> tuple[np.ndarray, np.ndarray]:
    """Makes the global batches: images uint8 [steps, batch, 2, 2, 1] and labels int32 [steps, batch]."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (STEPS, BATCH, *FEATURES), np.uint8)
    return images, rng.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32)


def weights_of(
    strategy: Any, config: OptimizerConfig, rank: int = 0, workers: int = 1, steps: int = STEPS
) -> list[list[float]]:
    """Trains a linear model, of two layers where their rates differ, on the worker batches of one rank.

    Returns:
        The flattened weights, then their moving averages if the config asks for them.
    """
    import keras

    from cnnlib.training.state.ema import averaged_weights
    from cnnlib.training.state.layer_rates import find_layer_rates, scale_rates
    from cnnlib.training.state.optimizer import build_optimizer

    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(FEATURES),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                *([keras.layers.Dense(4)] if config.layer_decay != 1 else []),
                keras.layers.Dense(CLASSES),
            ]
        )
        optimizer = build_optimizer(config, LEARNING_RATE, epochs=1, steps_per_epoch=STEPS)
        optimizer.build(model.trainable_variables)
    if config.layer_decay != 1:
        scale_rates(optimizer, find_layer_rates(model, config.layer_decay).factors)
    augment = None
    if config is CASES["augmented"]:
        from cnnlib.training.augment.augment import build_augment

        augment = build_augment(AUGMENT, batch_size=BATCH, seed=0)
    train_call = _build_call(strategy, model, optimizer, seed=0, augment=augment)
    images, labels = make_rows()
    worker_rows = slice(rank * BATCH // workers, (rank + 1) * BATCH // workers)
    train_call(images[:steps, worker_rows], labels[:steps, worker_rows])
    raw = model.get_weights()
    with averaged_weights(model, optimizer):
        averages = model.get_weights() if config.ema_momentum else []
    return [weight.ravel().tolist() for weight in [*raw, *averages]]


def normalised_weights(strategy: Any, rank: int = 0, workers: int = 1) -> list[list[float]]:
    """Trains a model with batch normalisation over all workers; returns its weights and its moving statistics."""
    import keras

    from cnnlib.training.state.moving_statistics import synchronize

    class Block(keras.layers.Layer):
        """A layer of its own that normalises: the layers of its model do not list the layer inside."""

        def __init__(self) -> None:
            super().__init__()
            self.normalise = keras.layers.BatchNormalization(momentum=0.5)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return self.normalise(inputs, training=training)

    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(FEATURES),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(4, 2, padding="same"),
                Block(),
                keras.layers.Conv2D(4, 2, padding="same"),
                keras.Sequential([keras.layers.BatchNormalization(momentum=0.5), keras.layers.ReLU()]),
                keras.layers.Flatten(),
                keras.layers.Dense(CLASSES),
            ]
        )
        synchronize(model)
        optimizer = keras.optimizers.SGD(LEARNING_RATE)
        optimizer.build(model.trainable_variables)
    train_call = _build_call(strategy, model, optimizer, seed=0, synchronized=True)
    images, labels = make_rows()
    worker_rows = slice(rank * BATCH // workers, (rank + 1) * BATCH // workers)
    train_call(images[:, worker_rows], labels[:, worker_rows])
    return [weight.ravel().tolist() for weight in model.get_weights()]


def draws_of(
    strategy: Any,
    rank: int = 0,
    workers: int = 1,
    *,
    seed: int = 0,
    first_step: int = 0,
    micro_batches: int = 1,
) -> list[list[list[float]]]:
    """Trains a model with two random layers and returns the numbers that they draw in this worker.

    Returns:
        [layer, step x micro-batch, 3].
    """
    import keras

    class Noise(keras.layers.Layer):
        """Adds random numbers, and keeps the numbers of the last calls."""

        def build(self, shape: Any) -> None:
            self.seed_generator = keras.random.SeedGenerator(1)
            self.drawn = self.add_weight(shape=((STEPS - first_step) * micro_batches, 3), trainable=False)

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
    train_call = _build_call(strategy, model, optimizer, seed=seed, micro_batches=micro_batches)
    images, labels = make_rows()
    train_call(images[first_step:, : BATCH // workers], labels[first_step:, : BATCH // workers])
    return [layer.drawn.numpy().tolist() for layer in layers[2:]]


def _build_call(strategy: Any, model: Any, optimizer: Any, **options: Any) -> Any:
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
    """Returns the precision that `auto` chooses, where `able` says whether this worker can compute in bfloat16."""
    from cnnlib.training import precision

    with mock.patch.object(precision, "computes_bfloat16", return_value=able):
        return precision.choose_precision("auto", strategy)


def main(rank: int, ports: list[str]) -> dict[str, Any]:
    """Runs all cases as one worker, and returns their results."""
    from cnnlib.training import strategy as strategies
    from cnnlib.training.ray.backend import set_tf_config

    set_tf_config([f"127.0.0.1:{port}" for port in ports], rank)
    load_tensorflow(1)
    strategy = strategies.build_strategy()
    return {
        "normalised": normalised_weights(strategy, rank, len(ports)),
        "draws": draws_of(strategy, rank, len(ports)),
        "precisions": [precision_of(strategy, able=able) for able in (True, rank == 0, False)],
        **{name: weights_of(strategy, config, rank, len(ports)) for name, config in CASES.items()},
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2:])), flush=True)  # noqa: T201
    os._exit(0)  # at once: a normal exit would wait for the other worker
