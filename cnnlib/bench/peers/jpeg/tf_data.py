"""Measures tf.data: JPEG files to batches of random crops, with `decode_and_crop_jpeg`, as TensorFlow's guides show.

https://www.tensorflow.org/guide/data_performance
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import tensorflow as tf

_SHUFFLE_ROWS = 1_000
_WHOLE = [[[0.0, 0.0, 1.0, 1.0]]]


def main(folder: str, batch_size: int, threads: int, side: int, min_area: float) -> float:
    """Returns the images per second of the second epoch."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    def read(path: Any) -> Any:
        data = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            _WHOLE,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(min_area, 1.0),
        )
        (top, left, _), (height, width, _) = tf.unstack(begin), tf.unstack(size)
        image = tf.io.decode_and_crop_jpeg(data, tf.stack([top, left, height, width]), channels=3)
        return tf.cast(tf.image.resize(image, (side, side)), tf.uint8)

    dataset = (
        tf.data.Dataset.from_tensor_slices(sorted(tf.io.gfile.glob(f"{folder}/*/*.jpg")))
        .shuffle(_SHUFFLE_ROWS)
        .map(read, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )

    def epoch() -> int:
        return sum(images.shape[0] for images in dataset)

    epoch()
    started = time.perf_counter()
    rows = epoch()
    return rows / (time.perf_counter() - started)


if __name__ == "__main__":
    folder, batch_size, threads, side, min_area = sys.argv[1:]
    speed = main(folder, int(batch_size), int(threads), int(side), float(min_area))
    print(json.dumps({"images_per_s": speed}))  # noqa: T201
