"""Measures what each augmentation adds to a training step: python -m cnnlib.bench.ours.augment 28x28x1 seed-cnn 32.

One process, in which the step without augmentation and those with each one run in turns, so that whatever else the
machine does meets all of them. Prints a line of JSON for each: median ms per step, and the quartiles of the ratio of
its time to that of the step without, round by round.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

import numpy as np

from cnnlib.config import AugmentConfig
from cnnlib.cores import num_cores
from cnnlib.models.registry import build_model, is_row_by_row
from cnnlib.models.runtime import count_chunks, load_tensorflow

_ROUNDS, _CLASSES = 15, 10
_CALL_PIXELS = 2**20
_CASES = {
    "none": AugmentConfig(),
    "flip, shift": AugmentConfig(flip="horizontal", shift=4),
    "rotation": AugmentConfig(rotate=15),
    "colours": AugmentConfig(brightness=0.2, contrast=0.2),
    "RandAugment of 2": AugmentConfig(rand_operations=2),
    "random erasing": AugmentConfig(erase=0.5),
    "MixUp": AugmentConfig(mixup=0.2),
    "CutMix": AugmentConfig(cutmix=1.0),
    "flip, shift, erasing, CutMix": AugmentConfig(flip="horizontal", shift=4, erase=0.5, cutmix=1.0),
}


def main(image_shape: tuple[int, int, int], model_name: str, batch_size: int) -> None:
    """Prints the measurements of all cases."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}}
    )
    threads = num_cores()
    chunks = count_chunks(threads, batch_size) if is_row_by_row(model_name) else 1
    load_tensorflow(threads, chunks)
    import keras

    from cnnlib.models.registry import gives_probabilities
    from cnnlib.training.augment.augment import build_augment
    from cnnlib.training.step import build_train_call
    from cnnlib.training.strategy import build_strategy

    strategy, calls = build_strategy(), {}
    for name, config in _CASES.items():
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = build_model(model_name, image_shape, _CLASSES)
            optimizer = keras.optimizers.Adam()
            optimizer.build(model.trainable_variables)
        calls[name] = build_train_call(
            model=model,
            optimizer=optimizer,
            strategy=strategy,
            batch_size=batch_size,
            image_shape=image_shape,
            from_logits=not gives_probabilities(model),
            jit_compile=False,
            seed=0,
            chunks=chunks,
            augment=build_augment(config, batch_size=batch_size, seed=0),
        )
    steps = max(1, _CALL_PIXELS // (batch_size * int(np.prod(image_shape))))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps, batch_size, *image_shape), np.uint8)
    labels = rng.integers(0, _CLASSES, (steps, batch_size), np.int32)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(_ROUNDS + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call(images, labels).numpy()
            if round_:  # the first one compiles
                times[name].append((time.perf_counter() - started) / steps * 1000)
    for name, own in times.items():
        low, middle, high = np.quantile(np.array(own) / np.array(times["none"]), [0.25, 0.5, 0.75])
        result = {"case": name, "ms_per_step": round(float(np.median(own)), 2), "n": _ROUNDS}
        result |= {
            "ratio": round(float(middle), 3),
            "quartiles": [round(float(low), 3), round(float(high), 3)],
        }
        print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    height, width, channels = map(int, sys.argv[1].split("x"))
    main((height, width, channels), sys.argv[2], int(sys.argv[3]))
