"""The driver's part of a training run: check everything, then let Ray Train run the workers.

Loads no TensorFlow: the workers do.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError

from cnnlib.cluster import connect as cluster
from cnnlib.config import TrainConfig, to_dict
from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.dataset.reader import check_shards
from cnnlib.errors import ConfigError, ConflictError, TrainingError
from cnnlib.feed.feed import Cache, choose_cache, worker_bytes
from cnnlib.feed.order import ValidationSplit, steps_per_epoch
from cnnlib.log import log_event
from cnnlib.models.registry import build_model, check_model_name, is_registered
from cnnlib.models.runtime import hide_gpus, load_tensorflow
from cnnlib.runs import checkpoints as runs
from cnnlib.runs.history import load_history
from cnnlib.runs.record import find_run_record, write_run_record
from cnnlib.storage import files, layout
from cnnlib.training.class_weights import class_weights
from cnnlib.training.early_stopping import is_stopped
from cnnlib.training.observe.mlflow import check_installed
from cnnlib.training.ray.trainer import Trainer
from cnnlib.training.strategy import MultiWorkerConfig
from cnnlib.training.worker import WorkerTask, train_worker

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What may change when a run is continued: how far and how fast, not what is computed.
_MAY_CHANGE = {"epochs", "early_stopping", "workers", "gpus_per_worker", "cluster", "loop"}


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run whose config, data and storage have been checked.

    Attributes:
        steps_per_epoch: steps of every epoch, for every worker.
        remainder: training rows that an epoch leaves out, other ones each time.
        done_epochs: epochs of an earlier call that it continues from.
        cache: where the rows were kept in that call; None if there was none.
        stopped_early: those ended it, by the early stopping of this config.
        recipe: name of the recipe that the config came from; None if it came from none.
    """

    config: TrainConfig
    dataset_uri: str
    manifest: Manifest
    run: str
    steps_per_epoch: int
    remainder: int
    done_epochs: int
    cache: Cache | None
    stopped_early: bool
    recipe: str | None = None

    @property
    def finished(self) -> bool:
        """True if there is nothing left to train."""
        return self.stopped_early or self.done_epochs >= self.config.epochs


def plan_run(
    config: TrainConfig, dataset_uri: str, runs_uri: str, name: str, recipe: str | None = None
) -> RunPlan:
    """Checks all that can be checked without a worker. Writes nothing but a probe, which it deletes.

    Args:
        recipe: name of the recipe that the config came from, for the run's record.

    Raises:
        InputError: the config, the data, the storage, or a run of that name with another config.
    """
    check_model_name(config.model)
    check_installed(config)
    if not _NAME.fullmatch(name) or layout.find_epoch(name) is not None:
        raise ConfigError(
            f"A run's name is letters, digits, '.', '_' and '-', and not a checkpoint's. Received {name!r}."
        )
    manifest = load_manifest(dataset_uri)
    train_rows = _count_train_rows(config, manifest)
    steps = _steps(config, train_rows)
    class_weights(config.loss, manifest.split(config.split).rows_per_class)
    run = layout.run_uri(runs_uri, name)
    record = find_run_record(run)
    _check_continues(record, config, manifest, run)
    checkpoints = runs.list_checkpoints(run)
    done_epochs = checkpoints[-1].epoch if checkpoints else 0
    check_shards(dataset_uri, manifest, config.split)
    files.check_writable(run)
    return RunPlan(
        config=config,
        dataset_uri=dataset_uri,
        manifest=manifest,
        run=run,
        steps_per_epoch=steps,
        remainder=train_rows - steps * config.batch_size,
        done_epochs=done_epochs,
        cache=record["cache"] if record else None,
        stopped_early=_is_stopped(config, run, done_epochs),
        recipe=recipe,
    )


def check_model(plan: RunPlan) -> int:
    """Builds the model, in this process, without a GPU, and returns its number of parameters.

    Raises:
        ModelError: it cannot be built or does not fit the data.
    """
    hide_gpus()
    load_tensorflow(num_threads=1)
    model = build_model(plan.config.model, plan.manifest.image_shape, plan.manifest.num_classes)
    return int(model.count_params())


def train(plan: RunPlan, *, live: bool) -> None:
    """Trains a run to its end, on the cluster at RAY_ADDRESS or on this machine.

    Args:
        live: a terminal watches: show a progress bar rather than lines.

    Raises:
        ResourceError: the cluster can never hold the workers.
        InputError: what a worker found wrong with the model or the data.
        TrainingError: the workers failed more often than `cluster.max_failures`.
    """
    config = plan.config
    cpus = cluster.divide_cores(config.workers, config.cluster.cpus_per_worker)
    request = cluster.ResourceRequest(
        what="workers", count=config.workers, cpus=cpus, gpus=config.gpus_per_worker
    )
    with (
        cluster.connect(request, config.cluster.wait_for_resources_s),
        tempfile.TemporaryDirectory() as scratch,
    ):
        if not is_registered(config.model):
            _check_model_on_cluster(plan)
        cache = plan.cache or _choose_cache(plan, request)
        write_run_record(plan.run, _run_record(plan, cache))
        log_event(
            "run",
            run=plan.run,
            workers=config.workers,
            threads_per_worker=cpus,
            learning_rate=config.scaled_learning_rate,
            steps_per_epoch=plan.steps_per_epoch,
            rows_left_out_per_epoch=plan.remainder,
            continues_from_epoch=plan.done_epochs,
        )
        _fit(plan, cpus, cache, live, scratch)


def _choose_cache(plan: RunPlan, request: cluster.ResourceRequest) -> Cache:
    split = plan.manifest.split(plan.config.split)
    needed, memory = (
        worker_bytes(plan.manifest, split, plan.config.workers),
        cluster.memory_per_worker(request),
    )
    cache = choose_cache(plan.config.cache, needed, memory)
    log_event(
        "cache",
        asked=plan.config.cache,
        chosen=cache,
        rows_mib_per_worker=needed / 2**20,
        memory_mib_per_worker=memory / 2**20,
    )
    return cache


def _fit(plan: RunPlan, cpus: int, cache: Cache, live: bool, scratch: str) -> None:
    config = plan.config
    task = WorkerTask(
        config=config,
        dataset_uri=plan.dataset_uri,
        manifest=plan.manifest,
        run=plan.run,
        cpus=cpus,
        steps_per_epoch=plan.steps_per_epoch,
        cache=cache,
        live=live,
    )
    # Not TensorflowTrainer: see MultiWorkerConfig.
    trainer = Trainer(
        lambda: train_worker(task),
        backend_config=MultiWorkerConfig(),
        scaling_config=ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.gpus_per_worker > 0,
            resources_per_worker={"CPU": cpus}
            | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {}),
        ),
        run_config=RunConfig(
            # Ray's own notes. Checkpoints and history are ours, under RUNS/NAME.
            storage_path=scratch,
            name="ray",
            failure_config=FailureConfig(max_failures=config.cluster.max_failures),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as err:
        own = cluster.find_own_error(err)
        if own is not None:
            raise own from err
        raise TrainingError(
            f"Training failed: {err}. What is done is kept: the same command continues it."
        ) from err


def result(plan: RunPlan) -> dict[str, Any]:
    """A run's result for `--json`: URIs and the last epoch's figures."""
    history = load_history(plan.run)
    checkpoints = runs.list_checkpoints(plan.run)
    done_epochs = checkpoints[-1].epoch if checkpoints else 0
    last = dataclasses.asdict(history[-1]) if history else {}
    return {
        "run": plan.run,
        "model": plan.config.model,
        "epochs": done_epochs,
        "stopped_early": _is_stopped(plan.config, plan.run, done_epochs),
        "checkpoint": checkpoints[-1].uri if checkpoints else None,
        "checkpoint_digest": checkpoints[-1].digest if checkpoints else None,
        "history": layout.run_history(plan.run),
        "learning_curves": layout.run_learning_curves(plan.run),
        "figures": {
            key: value.isoformat() if isinstance(value, datetime) else value for key, value in last.items()
        },
    }


def _is_stopped(config: TrainConfig, run: str, done_epochs: int) -> bool:
    if not config.early_stopping.patience or not 0 < done_epochs < config.epochs:
        return False
    done = [record for record in load_history(run) if record.epoch <= done_epochs]
    return is_stopped(done, config.early_stopping)


def _count_train_rows(config: TrainConfig, manifest: Manifest) -> int:
    rows = manifest.split(config.split).rows
    return ValidationSplit.of(rows, config.validation_fraction).train_rows


def _steps(config: TrainConfig, train_rows: int) -> int:
    available = steps_per_epoch(train_rows, config.batch_size)
    if not available:
        raise ConfigError(
            f"batch_size={config.batch_size} is more than the {train_rows} training rows. Choose a smaller one."
        )
    if config.steps_per_epoch is None:
        return available
    if config.steps_per_epoch > available:
        raise ConfigError(
            f"steps_per_epoch={config.steps_per_epoch} is more than the data gives: {train_rows} training rows are "
            f"{available} batches of {config.batch_size}. Give more epochs instead."
        )
    return config.steps_per_epoch


def _check_continues(
    record: dict[str, Any] | None, config: TrainConfig, manifest: Manifest, run: str
) -> None:
    if record is None:
        return
    then, now = record["config"], json.loads(json.dumps(to_dict(config)))
    # A cosine over the whole run is another one where the run is longer.
    may_change = _MAY_CHANGE - ({"epochs"} if config.optimizer.schedule == "cosine" else set())
    changed = [
        f"{key}: {then.get(key)} then, {now[key]} now"
        for key in now
        if key not in may_change and then.get(key) != now[key]
    ]
    if record["dataset_fingerprint"] != manifest.fingerprint:
        changed.append("the data set is another")
    if changed:
        raise ConflictError(
            f"The run {run} exists with another config ({'; '.join(changed)}). "
            "Choose another --name, or give the same flags to continue it."
        )


def _run_record(plan: RunPlan, cache: Cache) -> dict[str, Any]:
    return {
        "recipe": plan.recipe,
        "config": to_dict(plan.config),
        "cache": cache,
        "dataset_uri": plan.dataset_uri,
        "dataset_fingerprint": plan.manifest.fingerprint,
        "started_at": datetime.now(UTC).isoformat(),
    }


def _check_model_on_cluster(plan: RunPlan) -> None:
    task = ray.remote(num_cpus=1, num_gpus=0, max_retries=0)(check_model)
    try:
        ray.get(task.remote(plan))
    except ray.exceptions.RayError as err:
        raise cluster.find_own_error(err) or TrainingError(f"The model could not be tried: {err}") from err
