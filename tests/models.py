"""Defines models as users do; `--model tests.models:<function>` names one of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import keras

DIE_WHEN = "TESTS_DIE_WHEN"  # names a file; as soon as it exists, one worker dies


def build_linear(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds one dense layer that outputs logits."""
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(num_classes),
        ]
    )


def build_mortal(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds the linear model; one process dies as soon as the file that DIE_WHEN names exists, later ones live."""
    threading.Thread(target=_die_once, args=(Path(os.environ[DIE_WHEN]),), daemon=True).start()
    return build_linear(image_shape, num_classes)


def build_killed(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds no model: its process ends as one that the kernel kills because memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("the process goes on")


def build_eleven_classes(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds a model with one class too many."""
    return build_linear(image_shape, num_classes + 1)


def _die_once(signal_file: Path) -> None:
    mark = signal_file.with_name("died")
    while not signal_file.exists():
        time.sleep(0.01)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    os._exit(1)


def build_two_inputs(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds a model that takes two images, which no dataset has."""
    inputs = [keras.Input(image_shape), keras.Input(image_shape)]
    flat = keras.layers.Flatten()(keras.layers.Concatenate()(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes)(flat))


def build_two_outputs(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds a model with a second output besides the classes."""
    inputs = keras.Input(image_shape)
    flat = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [keras.layers.Dense(num_classes)(flat), keras.layers.Dense(1)(flat)])
