"""Measures `to_tf` or `iter_tf_batches` of Ray Data: Parquet files to TensorFlow tensors, without training.

https://docs.ray.io/en/latest/data/iterating-over-data.html
"""

from __future__ import annotations

import json
import sys
import time

import ray
import tensorflow as tf


def main(method: str, data: str, batch_size: int, threads: int) -> float:
    """Returns the images per second of the second epoch.

    Args:
        method: `to_tf` or `iter_tf_batches`.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    ray.init(address="local", num_cpus=threads)
    dataset = ray.data.read_parquet(data)

    def epoch() -> int:
        rows = 0
        if method == "to_tf":
            for images, _ in dataset.to_tf("image", "label", batch_size=batch_size):
                rows += images.shape[0]
        else:
            for batch in dataset.iter_tf_batches(batch_size=batch_size):
                rows += batch["image"].shape[0]
        return rows

    epoch()
    started = time.perf_counter()
    rows = epoch()
    seconds = time.perf_counter() - started
    ray.shutdown()
    return rows / seconds


if __name__ == "__main__":
    images_per_s = main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps({"images_per_s": images_per_s}))  # noqa: T201
