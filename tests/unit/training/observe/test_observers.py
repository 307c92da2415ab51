"""Tests what TensorBoard and MLflow receive of a run, as TensorFlow and MLflow themselves read it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from cnnlib.config import LoopConfig, OptimizerConfig, TrainConfig
from cnnlib.errors import ConfigError
from cnnlib.storage import files, layout
from cnnlib.training.chief import build_observers
from cnnlib.training.observe.mlflow import check_installed
from cnnlib.training.observe.tensorboard import StepProfiler
from tests.histories import make_history

pytestmark = pytest.mark.usefixtures("strategy")

HISTORY = make_history([0.5, 0.75])


def test_run_that_asks_for_nothing_writes_nothing(tmp_path: Path) -> None:
    observers = build_observers(TrainConfig(), str(tmp_path / "run"))
    assert observers.watch(abs, calls=9) is abs
    observers.end_epoch(HISTORY[0])
    observers.close()
    assert not (tmp_path / "run").exists()


class Calls:
    """A train call of 5 steps that records whether each call was traced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.traced: list[bool] = []
        self._tracing = False
        start, stop = tf.profiler.experimental.start, tf.profiler.experimental.stop
        monkeypatch.setattr(tf.profiler.experimental, "start", self._record(start, True))
        monkeypatch.setattr(tf.profiler.experimental, "stop", self._record(stop, False))

    def _record(self, function: Callable[..., None], tracing: bool) -> Callable[..., None]:
        def recorded(*args: Any) -> None:
            self._tracing = tracing
            function(*args)

        return recorded

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, request: float = 0.0) -> tf.Tensor:
        self.traced.append(self._tracing)
        return tf.reduce_sum(tf.cast(labels, tf.float64)) + request


@pytest.mark.parametrize(
    ("steps", "calls", "traced"),
    [
        (5, 4, [False, True, False, False]),
        (6, 4, [False, True, True, False]),
        (99, 3, [False, True, True]),
        (1, 1, [True]),
    ],
)
def test_trace_holds_the_calls_after_the_first_and_is_uploaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: int, calls: int, traced: list[bool]
) -> None:
    train_call, run = Calls(monkeypatch), str(tmp_path / "run")
    profiler = StepProfiler(run, steps)
    call = profiler.watch(train_call, calls)
    labels = tf.ones((5, 2), tf.int32)
    results = [call(labels, labels, 0.5).numpy() for _ in range(calls)]
    profiler.close()
    assert results == [10.5] * calls
    assert train_call.traced == traced
    found = files.list_objects(layout.run_profile(run))
    assert [each.num_bytes > 0 for each in found if each.uri.endswith(".xplane.pb")] == [True]


def test_mlflow_receives_the_config_and_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    store = (tmp_path / "mlflow").as_uri()
    config = TrainConfig(loop=LoopConfig(mlflow_uri=store), optimizer=OptimizerConfig(name="adamw"))
    for record in HISTORY:  # once more for each epoch, as a run that is continued does
        observers = build_observers(config, "s3://bucket/runs/seed")
        observers.end_epoch(record)
        observers.close()
    client = MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name("cnnlib").experiment_id])
    assert run.info.run_name == "seed"
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.name"] == "adamw"
    accuracies = client.get_metric_history(run.info.run_id, "validation_accuracy")
    assert [(each.step, each.value) for each in accuracies] == [(1, 0.5), (2, 0.75)]


def test_mlflow_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    config = TrainConfig(loop=LoopConfig(mlflow_uri=(tmp_path / "mlflow").as_uri()))
    with pytest.raises(ConfigError, match=r"MLflow at file:.* cannot be used"):
        build_observers(config, "s3://bucket/runs/seed")


def test_mlflow_that_is_not_installed_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = TrainConfig(loop=LoopConfig(mlflow_uri="http://localhost:5000"))
    check_installed(config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'cnnlib\[mlflow\]'"):
        check_installed(config)
    check_installed(TrainConfig())
