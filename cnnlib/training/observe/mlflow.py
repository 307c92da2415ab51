"""Logs a run to MLflow: the config as parameters, the metrics of each epoch as metrics.

MLflow is optional (`pip install cnnlib[mlflow]`), so it is imported only for a run that asks for it. The user and the
password of a server come from the environment, as MLflow reads them.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from cnnlib.config import TrainConfig, to_dict
from cnnlib.errors import ConfigError
from cnnlib.redact import redact
from cnnlib.runs.history import EpochRecord
from cnnlib.storage.uri import uri_name
from cnnlib.training.observe.observers import Observer

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_EXPERIMENT = "cnnlib"
_RUN_TAG = "cnnlib.run"


def check_installed(config: TrainConfig) -> None:
    """Checks, without importing it, that MLflow is installed if the run asks for it.

    Raises:
        ConfigError: it is not installed.
    """
    if config.loop.mlflow_uri is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            f"loop.mlflow_uri needs MLflow. Received {redact(config.loop.mlflow_uri)}, expected the package "
            "mlflow-skinny or mlflow to be installed here and on every worker: pip install 'cnnlib[mlflow]'."
        )


class MlflowRun(Observer):
    """A run on an MLflow server. When the training run continues, its MLflow run continues too."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id

    @classmethod
    def open(cls, tracking_uri: str, run: str, config: TrainConfig) -> MlflowRun:
        """Finds the MLflow run of a training run on the server, or creates it.

        Raises:
            ConfigError: the server cannot be used.
        """
        # Training contacts only servers that the user names.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            client = MlflowClient(tracking_uri=_move_password(tracking_uri))
            return cls(client, _find_or_create(client, run, config))
        except MlflowException as err:
            # Without its cause, whose text Ray would log with the password that may be in the URI.
            raise ConfigError(redact(f"MLflow at {tracking_uri} cannot be used: {err}")) from None

    def end_epoch(self, record: EpochRecord) -> None:
        """Logs the metrics of an epoch."""
        for name, value in record.metrics().items():
            self._client.log_metric(self._run_id, name, value, step=record.epoch)

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self._run_id)


def _move_password(uri: str) -> str:
    """Moves user and password from a URI to where MLflow looks for them: it prints the URI. Returns the URI without."""
    parts = urlsplit(uri)
    if parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _find_or_create(client: MlflowClient, run: str, config: TrainConfig) -> str:
    """Returns the id of the MLflow run of a training run, and creates that MLflow run if there is none."""
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    experiment_id = client.create_experiment(_EXPERIMENT) if experiment is None else experiment.experiment_id
    found = client.search_runs([experiment_id], f"tags.`{_RUN_TAG}` = '{run}'")
    if found:
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, status="RUNNING")
        return run_id
    created = client.create_run(experiment_id, run_name=uri_name(run), tags={_RUN_TAG: run})
    for name, value in _flatten(to_dict(config)):
        client.log_param(created.info.run_id, name, value)
    return str(created.info.run_id)


def _flatten(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
