"""Runs a plain Keras 3 script: load, compile, fit, save, with the defaults of Keras."""

from __future__ import annotations

import sys

import numpy as np

from cnnlib.bench.peers.idx import read_idx
from cnnlib.models.cnn import build_seed_cnn


def main(folder: str, output: str, batch_size: int, epochs: int) -> None:
    """Trains on the IDX files of a folder, and saves the model at `output` plus `.keras`."""
    images, labels = read_idx(folder, "train")
    model = build_seed_cnn((28, 28, 1), 10)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images.astype(np.float32), labels, batch_size=batch_size, epochs=epochs, verbose=2)
    model.save(f"{output}.keras")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
