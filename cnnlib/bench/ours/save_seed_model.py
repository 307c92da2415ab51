"""Saves the untrained seed model, the input of the stage `evaluate`."""

from __future__ import annotations

import sys

import keras

from cnnlib.models.cnn import build_seed_cnn

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    build_seed_cnn((28, 28, 1), 10).save(sys.argv[1])
