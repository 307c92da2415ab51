"""A run as MLflow sees it: the config as parameters, an epoch's figures as metrics. The chief's alone.

MLflow is optional (`pip install cnnlib[mlflow]`) and imported only where a run asks for it. User and password of a
server come from the environment, as MLflow has them.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any

from cnnlib.config import TrainConfig, to_dict
from cnnlib.errors import ConfigError
from cnnlib.storage.uri import uri_name

_EXPERIMENT = "cnnlib"
_RUN_TAG = "cnnlib.run"


def check_installed(config: TrainConfig) -> None:
    """Checks that MLflow is there where a run asks for it, without importing it.

    Raises:
        ConfigError: it is not.
    """
    if config.loop.mlflow_uri is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            f"loop.mlflow_uri needs MLflow. Received {config.loop.mlflow_uri}, expected the package mlflow-skinny "
            "or mlflow to be installed here and on every worker: pip install 'cnnlib[mlflow]'."
        )


class MlflowRun:
    """A run on an MLflow server; one that is continued goes on as the run it was."""

    def __init__(self, tracking_uri: str, run: str, config: TrainConfig) -> None:
        """Finds the MLflow run of this run, or makes it.

        Raises:
            ConfigError: the server cannot be used.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a training run calls nobody unasked
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            self._client = MlflowClient(tracking_uri=tracking_uri)
            self._run_id = self._find_or_create(run, config)
        except MlflowException as err:
            raise ConfigError(f"MLflow at {tracking_uri} cannot be used: {err}") from err

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Logs an epoch's figures."""
        for name, value in scalars.items():
            self._client.log_metric(self._run_id, name, value, step=epoch)

    def close(self) -> None:
        """The run is over."""
        self._client.set_terminated(self._run_id)

    def _find_or_create(self, run: str, config: TrainConfig) -> str:
        experiment = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment_id = (
            self._client.create_experiment(_EXPERIMENT) if experiment is None else experiment.experiment_id
        )
        found = self._client.search_runs([experiment_id], f"tags.`{_RUN_TAG}` = '{run}'")
        if found:
            run_id = str(found[0].info.run_id)
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        made = self._client.create_run(experiment_id, run_name=uri_name(run), tags={_RUN_TAG: run})
        for name, value in _flatten(to_dict(config)):
            self._client.log_param(made.info.run_id, name, value)
        return str(made.info.run_id)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
