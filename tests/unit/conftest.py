"""Provides what unit tests share: an environment that stays as it was, and TensorFlow as a worker sets it up."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import tensorflow as tf

THREADS = 1  # as many as launch.check_model sets: TensorFlow refuses another number later


def pytest_collection_finish() -> None:
    """Takes what the imports made out of garbage collection: walking TensorFlow's objects costs 7 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def environment_is_left_as_it_was() -> Iterator[None]:
    """Removes the variables that a job in this process set for Ray, so that the next test does not see them."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ |= before


@pytest.fixture(scope="session")
def strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of a run with one worker. Every test that computes needs it: TensorFlow must create it first."""
    from cnnlib.models.runtime import load_tensorflow
    from cnnlib.training import strategy as strategies
    from cnnlib.training.ray.backend import set_tf_config

    load_tensorflow(THREADS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    set_tf_config([address], 0)
    try:
        return strategies.build_strategy()
    finally:
        del os.environ["TF_CONFIG"]
