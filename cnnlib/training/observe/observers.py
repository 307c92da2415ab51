"""Who else is told how a run goes: TensorBoard, its profiler, MLflow, each where the config asks. The chief's alone."""

from __future__ import annotations

from cnnlib.config import TrainConfig
from cnnlib.runs.history import EpochRecord
from cnnlib.training.observe.mlflow import MlflowRun
from cnnlib.training.observe.tensorboard import StepTrace, epoch_scalars, write_scalars
from cnnlib.training.step import TrainCall


class Observers:
    """Those that a run has, none of them by default."""

    def __init__(self, config: TrainConfig, run: str) -> None:
        """Raises a ConfigError where MLflow cannot be reached."""
        self._config = config
        self._run = run
        self._trace: StepTrace | None = None
        uri = config.loop.mlflow_uri
        self._mlflow = None if uri is None else MlflowRun(uri, run, config)

    def watch(self, train_call: TrainCall, calls: int) -> TrainCall:
        """Returns what to call instead; `calls` of it are to come."""
        if self._config.loop.profile_steps and calls:
            self._trace = StepTrace(train_call, self._run, self._config.loop.profile_steps, calls)
            return self._trace
        return train_call

    def write(self, record: EpochRecord) -> None:
        """Tells of an epoch."""
        if self._config.loop.tensorboard:
            write_scalars(self._run, record)
        if self._mlflow is not None:
            self._mlflow.write(record.epoch, epoch_scalars(record))

    def close(self) -> None:
        """The run is over."""
        if self._trace is not None:
            self._trace.close()
        if self._mlflow is not None:
            self._mlflow.close()
