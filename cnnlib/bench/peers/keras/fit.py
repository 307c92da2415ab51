"""Measures `compile` and `fit` of the seed model with Keras 3."""

from __future__ import annotations

import json
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from cnnlib.models.cnn import build_seed_cnn


def main(batch_size: int, steps: int, threads: int, jit_compile: bool) -> float:
    """Returns the images per second of `fit` over a number of steps, after five steps that are not counted."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size * steps, 28, 28, 1)).astype(np.float32)
    labels = rng.integers(0, 10, batch_size * steps)
    model = build_seed_cnn((28, 28, 1), 10)
    model.compile(
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    model.fit(images[: batch_size * 5], labels[: batch_size * 5], batch_size=batch_size, verbose=0)
    started = time.perf_counter()
    model.fit(images, labels, batch_size=batch_size, verbose=0)
    return batch_size * steps / (time.perf_counter() - started)


if __name__ == "__main__":
    batch, count, num_threads, jit = map(int, sys.argv[1:])
    print(json.dumps({"images_per_s": main(batch, count, num_threads, bool(jit))}))  # noqa: T201
