"""Measures our training loop on the seed model in one process, without Ray, on a GPU if one is visible."""

from __future__ import annotations

import json
import os
import socket
import sys

import numpy as np

from cnnlib.config import AugmentConfig
from cnnlib.dataset.record import Rows
from cnnlib.models.runtime import count_chunks, load_tensorflow
from cnnlib.runs.resume_points import EpochPart

_STEPS_PER_CALL = 25
_CLASSES = 10


def main(batch_size: int, steps: int, threads: int, precision: str, augment: str = "") -> dict[str, float]:
    """Returns the images per second of one epoch, and its fraction of time waiting for data, after a warm-up.

    Args:
        precision: a Keras dtype policy.
        augment: the fields of an `AugmentConfig` as JSON; empty: the rows stay as they are.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}}
    )
    on_gpu = bool(os.environ.get("CUDA_VISIBLE_DEVICES"))
    chunks = 1 if on_gpu else count_chunks(threads, batch_size)
    load_tensorflow(threads, chunks, gpus=on_gpu)
    import keras

    from cnnlib.feed.device import iter_macro_batches
    from cnnlib.feed.memory import gather
    from cnnlib.models.cnn import build_seed_cnn
    from cnnlib.training.augment.augment import build_augment
    from cnnlib.training.loop import run_epoch
    from cnnlib.training.step import build_train_call
    from cnnlib.training.strategy import build_strategy, replica_device

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision)
    strategy = build_strategy()
    with strategy.scope():
        model = build_seed_cnn((28, 28, 1), _CLASSES)
        optimizer = keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
    train_call = build_train_call(
        model=model,
        optimizer=optimizer,
        strategy=strategy,
        batch_size=batch_size,
        image_shape=(28, 28, 1),
        from_logits=False,
        jit_compile=on_gpu,
        chunks=chunks,
        seed=0,
        augment=build_augment(AugmentConfig(**json.loads(augment or "{}")), batch_size=batch_size, seed=0),
    )
    rows, device = _random_rows(batch_size * steps), replica_device(strategy)
    order = np.arange(batch_size * steps).reshape(steps, batch_size)

    def epoch(row_order: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> dict[str, float]:
        batches = iter_macro_batches(gather(rows, row_order, _STEPS_PER_CALL), device)
        metrics = run_epoch(
            train_call,
            batches,
            batch_size=batch_size,
            steps_per_epoch=100_000,
            done=EpochPart(1),
            first_step=0,
            progress=None,
            learning_rate=lambda: float(optimizer.learning_rate),
        )
        return {"images_per_s": metrics.images_per_s, "data_wait": metrics.data_wait}

    # The last call has as many steps as that of the epoch: XLA compiles once for every number of steps.
    epoch(order[: _STEPS_PER_CALL + steps % _STEPS_PER_CALL] if on_gpu else order[:5])
    return epoch(order)


def _random_rows(count: int) -> Rows:
    rng = np.random.default_rng(0)
    return Rows(
        ids=np.arange(count, dtype=np.int64),
        images=rng.integers(0, 256, (count, 28, 28, 1), np.uint8),
        labels=rng.integers(0, _CLASSES, count, np.int32),
    )


if __name__ == "__main__":
    batch, count_, num_threads = map(int, sys.argv[1:4])
    print(json.dumps(main(batch, count_, num_threads, *sys.argv[4:])))  # noqa: T201
