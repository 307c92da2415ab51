"""Measures the peak speed of matrix products on this machine: 2048 x 2048 x 2048, in GFLOP/s."""

from __future__ import annotations

import json
import sys
import time

import tensorflow as tf

_SIZE = 2048
_REPEATS = 15


def main(dtype: str, threads: int) -> float:
    """Returns the GFLOP/s of the fastest of several products."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    left = tf.cast(tf.random.stateless_normal([_SIZE, _SIZE], [0, 1]), dtype)
    right = tf.cast(tf.random.stateless_normal([_SIZE, _SIZE], [0, 2]), dtype)
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        tf.linalg.matmul(left, right).numpy()
        seconds.append(time.perf_counter() - started)
    return 2 * _SIZE**3 / min(seconds) / 1e9


if __name__ == "__main__":
    print(json.dumps({"gflop_per_s": main(sys.argv[1], int(sys.argv[2]))}))  # noqa: T201
