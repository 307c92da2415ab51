"""Writes images as TFRecord files, as the tutorial of TensorFlow shows.

https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

from cnnlib.bench.peers.idx import read_idx

_FILES = 12


def main(folder: str, output: str) -> None:
    """Writes the training rows of a folder of IDX files."""
    images, labels = read_idx(folder, "train")
    Path(output).mkdir()
    for index in range(_FILES):
        with tf.io.TFRecordWriter(f"{output}/part-{index:05d}.tfrecord") as writer:
            for image, label in zip(images[index::_FILES], labels[index::_FILES], strict=True):
                writer.write(_serialize(image.tobytes(), int(label)))


def _serialize(image: bytes, label: int) -> bytes:
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return bytes(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
