"""Measures `load_model` and `evaluate` on NumPy arrays, with the defaults of Keras 3."""

from __future__ import annotations

import json
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from cnnlib.bench.peers.idx import read_idx


def main(model_file: str, folder: str, threads: int) -> float:
    """Returns the images per second of the second pass over the test images."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = keras.models.load_model(model_file, compile=False)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    pixels, labels = read_idx(folder, "t10k")
    images = pixels.astype(np.float32)
    model.evaluate(images, labels, verbose=0)
    started = time.perf_counter()
    model.evaluate(images, labels, verbose=0)
    return len(labels) / (time.perf_counter() - started)


if __name__ == "__main__":
    print(json.dumps({"images_per_s": main(sys.argv[1], sys.argv[2], int(sys.argv[3]))}))  # noqa: T201
