"""Measures our feed: shards to macro-batches of tensors, without training, on a GPU if one is visible."""

from __future__ import annotations

import json
import math
import os
import sys
import time

from cnnlib.bench.ours.stream import open_stream
from cnnlib.dataset.manifest import load_manifest
from cnnlib.feed.feed import fit_steps_per_call
from cnnlib.models.runtime import load_tensorflow

_STEPS_PER_CALL = 25


def main(dataset_uri: str, batch_size: int, threads: int, min_crop_area: float = 1.0) -> float:
    """Returns the images per second of the second epoch, which is streamed from the shards like the first."""
    load_tensorflow(threads, gpus=True)
    from cnnlib.feed.device import iter_macro_batches

    device = "/device:GPU:0" if os.environ.get("CUDA_VISIBLE_DEVICES") else "/device:CPU:0"
    stream = open_stream(
        dataset_uri, batch_size=batch_size, threads=threads, epochs=2, min_crop_area=min_crop_area
    )
    with stream as (feed, steps):
        step_bytes = batch_size * math.prod(load_manifest(dataset_uri).image_shape)
        calls = fit_steps_per_call(_STEPS_PER_CALL, step_bytes)

        def epoch(number: int) -> int:
            host_batches = feed.epoch(number, steps, calls)
            return sum(batch.steps * batch_size for batch in iter_macro_batches(host_batches, device))

        epoch(1)
        started = time.perf_counter()
        count = epoch(2)
        return count / (time.perf_counter() - started)


if __name__ == "__main__":
    speed = main(sys.argv[1], *map(int, sys.argv[2:4]), *map(float, sys.argv[4:]))
    print(json.dumps({"images_per_s": speed}))  # noqa: T201
