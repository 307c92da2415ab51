"""Measures tf.data: TFRecord files to tensors, without training, as the guides of TensorFlow show.

https://www.tensorflow.org/guide/data_performance
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import tensorflow as tf

_SHUFFLE_ROWS = 10_000


def main(data: str, batch_size: int, threads: int) -> float:
    """Returns the images per second of the second epoch."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    files = tf.io.gfile.glob(f"{data}/*.tfrecord")
    dataset = (
        tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
        .shuffle(_SHUFFLE_ROWS)
        .map(_parse, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )

    def epoch() -> int:
        return sum(images.shape[0] for images, _ in dataset)

    epoch()
    started = time.perf_counter()
    rows = epoch()
    return rows / (time.perf_counter() - started)


def _parse(example: Any) -> tuple[Any, Any]:
    features = tf.io.parse_single_example(
        example,
        {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)},
    )
    image = tf.reshape(tf.io.decode_raw(features["image"], tf.uint8), [28, 28, 1])
    return image, tf.cast(features["label"], tf.int32)


if __name__ == "__main__":
    print(json.dumps({"images_per_s": main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))}))  # noqa: T201
