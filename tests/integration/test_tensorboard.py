"""TensorFlow reads what a run wrote for TensorBoard, from a disk and from the S3 server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cnnlib.config import LoopConfig, TrainConfig
from cnnlib.storage import files, layout
from cnnlib.storage.uri import join_uri
from cnnlib.training.chief import build_observers
from tests.histories import make_history

HISTORY = make_history([0.5, 0.75])


def read_scalars(path: Path) -> dict[tuple[str, int], float]:
    """Returns the metrics in an event file, by name and epoch."""
    return {
        (value.tag, event.step): float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "scalars"
    }


def test_tensorboard_reads_what_the_history_says(base_uri: str, tmp_path: Path) -> None:
    run = join_uri(base_uri, "runs", "seed")
    observers = build_observers(TrainConfig(loop=LoopConfig(tensorboard=True)), run)
    for record in [*HISTORY, HISTORY[-1]]:  # an epoch that is trained again replaces its metrics
        observers.end_epoch(record)
    observers.close()
    found = [each.uri for each in files.list_objects(run)]
    assert found == [layout.run_scalars(run, 1), layout.run_scalars(run, 2)]
    for uri, record in zip(found, HISTORY, strict=True):
        path = tmp_path / "events"
        files.download(uri, path)
        scalars = read_scalars(path)
        assert scalars == {
            (name, record.epoch): pytest.approx(value) for name, value in record.metrics().items()
        }
        assert scalars["validation_accuracy", record.epoch] == pytest.approx(record.validation_accuracy)


def test_trace_is_uploaded_to_object_storage(s3_uri: str) -> None:
    observers = build_observers(TrainConfig(loop=LoopConfig(profile_steps=1)), s3_uri)
    labels = np.ones((5, 2), np.int32)
    observers.watch(lambda _, labels, request: tf.reduce_sum(labels), calls=1)(labels, labels)
    observers.close()
    (trace,) = (each for each in files.list_objects(s3_uri) if each.uri.endswith(".xplane.pb"))
    assert trace.num_bytes > 0
