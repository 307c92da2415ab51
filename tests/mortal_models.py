"""A model whose training worker kills itself once: `--model tests.mortal_models:build`.

The file that the variable CNNLIB_TEST_DEATH names holds a rank, a folder and a signal. Once a resume point is in the
folder, the worker of this rank deletes the file and sends itself the signal: SIGKILL, as the kernel does to a process
that needs too much memory, or SIGSTOP, after which it does nothing any more. The model has what a checkpoint must carry
besides its weights: batch normalisation and dropout.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import keras
from keras import layers

DEATH = "CNNLIB_TEST_DEATH"


def build(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds a small CNN, and in a training worker lets its death wait for the first resume point."""
    if "TF_CONFIG" in os.environ and os.environ.get(DEATH):
        threading.Thread(target=_die_once, args=(Path(os.environ[DEATH]),), daemon=True).start()
    return keras.Sequential(
        [
            layers.Input(image_shape),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.BatchNormalization(momentum=0.9),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


def _die_once(order: Path) -> None:
    rank = str(json.loads(os.environ["TF_CONFIG"])["task"]["index"])
    while order.exists():
        wanted, folder, number = order.read_text().split("\n")
        if wanted != rank:
            return
        if list(Path(folder).glob("*.json")):
            order.unlink()
            os.kill(os.getpid(), signal.Signals[number])
        time.sleep(0.005)
