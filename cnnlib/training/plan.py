"""Plans a training run and checks it before any worker starts. Loads neither TensorFlow nor Ray.

`plan_run` checks config, data, storage and an earlier part of the run, and returns a `RunPlan`. `WorkerTask` is the
part of the plan that every worker receives.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnlib.config import AugmentConfig, TrainConfig, to_dict
from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.dataset.reader import check_shards
from cnnlib.errors import ConfigError, ConflictError
from cnnlib.feed.feed import Cache, FeedTask, fit_steps_per_call
from cnnlib.feed.index import RowIndex
from cnnlib.feed.order import ROW_ORDER_VERSION, steps_per_epoch
from cnnlib.feed.validation import ValidationSplit, count_validation_rows
from cnnlib.log import log_event
from cnnlib.models.registry import check_model, is_row_by_row
from cnnlib.models.runtime import count_chunks
from cnnlib.runs.checkpoints import list_checkpoints
from cnnlib.runs.early_stopping import is_stopped
from cnnlib.runs.mending import find_history, match_history
from cnnlib.runs.record import RunRecord, find_run_record
from cnnlib.shapes import ImageShape
from cnnlib.storage import files, layout
from cnnlib.storage.uri import normalize_uri
from cnnlib.training.class_weights import class_weights
from cnnlib.training.first_weights import FirstWeights, check_weights_uri, find_first_weights
from cnnlib.training.observe.mlflow import check_installed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What may change when a run continues: how far it trains, on what, and what is shown. The rest decides the result.
_MAY_CHANGE = {
    "epochs",
    "early_stopping",
    "workers",
    "min_workers",
    "gpus_per_worker",
    "on_nan",
    "checkpoint",
    "cluster",
} | {
    f"loop.{name}"
    for name in ("steps_per_call", "log_every_steps", "profile_steps", "tensorboard", "mlflow_uri")
}
_UNKNOWN = object()
_USUAL_SPLIT, _NO_SPLIT = "val", "none"


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run whose config, data and storage have been checked.

    Attributes:
        steps_per_epoch: steps of every epoch, for every worker.
        remainder: training rows that an epoch leaves out; each epoch leaves out others.
        done_epochs: epochs that an earlier part of the run has finished.
        cache: where that earlier part kept the rows; None if there was none.
        validation_split: the split of the validation rows; None if they are a fraction of the training rows, or none.
        stopped_early: True if early stopping, as this config has it, ended that earlier part.
        recipe: name of the recipe that the config came from; None if it came from none.
        first_weights: the file whose weights the run begins with; None if it has none, or goes on.
    """

    config: TrainConfig
    dataset_uri: str
    manifest: Manifest
    run: str
    steps_per_epoch: int
    remainder: int
    done_epochs: int
    cache: Cache | None
    validation_split: str | None
    stopped_early: bool
    recipe: str | None = None
    first_weights: FirstWeights | None = None

    @property
    def finished(self) -> bool:
        """True if there is nothing left to train."""
        return self.stopped_early or self.done_epochs >= self.config.epochs


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """Everything that a worker needs to train its part of a run.

    Attributes:
        cpus: threads of this worker.
        steps_per_epoch: the same for every worker, or the last all-reduce would wait for ever.
        cache: where rows are kept, the same for every worker, and the same as before if the run continues.
        index: what all workers must agree on about the rows.
        validation_split: see `RunPlan`.
        live: True if a person watches at a terminal.
        opens_in_keras: False if plain Keras does not open the model's files; the checkpoints then say so.
        first_weights: see `RunPlan`.
    """

    config: TrainConfig
    dataset_uri: str
    manifest: Manifest
    run: str
    cpus: int
    steps_per_epoch: int
    cache: Cache
    index: RowIndex
    live: bool
    opens_in_keras: bool = True
    validation_split: str | None = None
    first_weights: FirstWeights | None = None

    @property
    def validates(self) -> bool:
        """True if there are validation rows."""
        return self.validation_split is not None or self.index.validation_split.count > 0

    @property
    def steps_per_call(self) -> int:
        """Returns the steps of one call of the compiled function: fewer than the config says if images are large."""
        worker_batch = self.config.batch_size // self.config.workers
        step_bytes = worker_batch * math.prod(self.manifest.image_shape)
        return fit_steps_per_call(self.config.loop.steps_per_call, step_bytes)

    @property
    def chunks(self) -> int:
        """Returns in how many chunks a micro-batch is computed in parallel: 1 on GPUs."""
        config = self.config
        if config.gpus_per_worker or not is_row_by_row(config.model, config.model_options):
            return 1
        return count_chunks(self.cpus, config.batch_size // config.workers // config.loop.micro_batches)

    def for_workers(self, workers: int) -> WorkerTask:
        """Returns the task of as many workers: fewer than the config says while the cluster has no room for all."""
        config = dataclasses.replace(self.config, workers=workers, min_workers=None)
        return dataclasses.replace(self, config=config)

    def feed_task(self, rank: int = 0) -> FeedTask:
        """Returns what the worker of this rank reads."""
        return FeedTask(
            dataset_uri=self.dataset_uri,
            manifest=self.manifest,
            split_name=self.config.split,
            validation_split=self.index.validation_split,
            pieces_per_shard=self.index.pieces_per_shard,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            min_crop_area=self.config.min_crop_area,
            rank=rank,
            workers=self.config.workers,
        )

    def validation_task(self, rank: int = 0) -> FeedTask | None:
        """Returns what the worker reads of the split of the validation rows; None if there is no such split."""
        if self.validation_split is None:
            return None
        rows = ValidationSplit.all(self.manifest.split(self.validation_split).rows)
        task = self.feed_task(rank)
        return dataclasses.replace(task, split_name=self.validation_split, validation_split=rows)


def plan_run(
    config: TrainConfig, dataset_uri: str, runs_uri: str, name: str, recipe: str | None = None
) -> RunPlan:
    """Checks everything that can be checked without a worker. Writes only a probe, which it deletes.

    Args:
        recipe: name of the recipe that the config came from, for the run's record.

    Raises:
        InputError: the config, the data or the storage cannot work, or a run of that name has another config.
    """
    check_model(config.model, config.model_options)
    check_installed(config)
    config = check_weights_uri(_find_reports(config))
    if not _NAME.fullmatch(name) or layout.find_epoch(name) is not None:
        raise ConfigError(
            "A run's name must begin with a letter or a digit, consist of letters, digits, '.', '_' and '-', "
            f"and not be the name of a checkpoint. Received {name!r}."
        )
    manifest = load_manifest(dataset_uri)
    run = layout.run_uri(runs_uri, name)
    record = find_run_record(run)
    if record is not None:
        check_continues(record, config, manifest, run)
    own_split = find_validation_split(config, manifest)
    validation_split = record.get("validation_split") if record is not None else own_split
    train_rows = _count_train_rows(config, manifest, validation_split)
    steps = _count_steps(config, train_rows)
    _check_classes(config, manifest)
    check_model(config.model, config.model_options, manifest.image_shape)
    _check_early_stopping(config, validation_split)
    _check_augment(config.augment, manifest.image_shape)
    class_weights(config.loss, manifest.split(config.split).rows_per_class)
    checkpoints = list_checkpoints(run)
    done_epochs = checkpoints[-1].epoch if checkpoints else 0
    stopped_early = has_stopped_early(config, run, done_epochs)
    if record is not None and done_epochs < config.epochs and not stopped_early:
        _check_row_order(record, run)
    check_shards(dataset_uri, manifest, config.split)
    if validation_split is not None:
        check_shards(dataset_uri, manifest, validation_split)
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
        validation_split=validation_split,
        stopped_early=stopped_early,
        recipe=recipe,
        first_weights=find_first_weights(config, run, done_epochs),
    )


def has_stopped_early(config: TrainConfig, run: str, done_epochs: int) -> bool:
    """Returns True if early stopping, as the config has it, ends a run after its first `done_epochs` epochs."""
    if not config.early_stopping.patience or not 0 < done_epochs < config.epochs:
        return False
    done = match_history(find_history(run), list_checkpoints(run))[:done_epochs]
    return is_stopped(done, config.early_stopping)


def _find_reports(config: TrainConfig) -> TrainConfig:
    """Returns the config with the whole URI of its reports, which its workers need; checks that they can be listed."""
    if config.checkpoint.reports is None:
        return config
    uri = normalize_uri(config.checkpoint.reports)
    files.list_files(layout.report_manifests(uri))
    return dataclasses.replace(config, checkpoint=dataclasses.replace(config.checkpoint, reports=uri))


def find_validation_split(config: TrainConfig, manifest: Manifest) -> str | None:
    """Returns the split of the validation rows, as the config names it or as the dataset has it."""
    name = config.validation_split
    if name == _NO_SPLIT:
        return None
    if name is None:
        return _USUAL_SPLIT if _USUAL_SPLIT in manifest.splits and config.split != _USUAL_SPLIT else None
    manifest.split(name)
    if name == config.split:
        raise ConfigError(
            f"validation_split must not be the split to train on. Received {name!r} for both. Give "
            "--validation-fraction to keep a part of its rows from training."
        )
    return name


def _check_early_stopping(config: TrainConfig, validation_split: str | None) -> None:
    if config.early_stopping.patience and validation_split is None and not config.validation_fraction:
        raise ConfigError(
            f"early_stopping needs validation rows. Received patience={config.early_stopping.patience}, "
            "validation_fraction=0, and the dataset has no split val. Try --validation-fraction 0.1."
        )


def _check_augment(augment: AugmentConfig, image_shape: ImageShape) -> None:
    """Checks that the images can be changed in this way."""
    height, width, channels = image_shape
    if augment.saturation and channels != 3:
        raise ConfigError(
            f"augment.saturation is for images of three channels. The images of the dataset have {channels}."
        )
    if augment.shift >= min(height, width):
        raise ConfigError(
            f"augment.shift must be less than the side of the images. Received {augment.shift}, and images of "
            f"{width}x{height} pixels."
        )


def _count_train_rows(config: TrainConfig, manifest: Manifest, validation_split: str | None) -> int:
    split = manifest.split(config.split)
    if validation_split is not None:
        return split.rows
    return split.rows - sum(count_validation_rows(split.rows_per_class, config.validation_fraction))


def _check_classes(config: TrainConfig, manifest: Manifest) -> None:
    """Checks that there is something to tell apart, and says which classes nobody will learn."""
    absent = manifest.classes_without_rows(config.split)
    if manifest.num_classes - len(absent) < 2:
        raise ConfigError(
            f"The split {config.split!r} has rows of fewer than two classes; it has none of {', '.join(absent)}. A "
            "classifier needs at least two. Prepare other data, or train on another --split."
        )
    if absent:
        log_event("labels", note=f"{config.split} has no rows of these classes: {', '.join(absent)}")


def _count_steps(config: TrainConfig, train_rows: int) -> int:
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


def check_continues(record: RunRecord, config: TrainConfig, manifest: Manifest, run: str) -> None:
    """Checks that a run which exists may continue with this config on this dataset."""
    then, now = _flatten(record["config"]), _flatten(json.loads(json.dumps(to_dict(config))))
    # A field that a later version added: the run was trained as its default says.
    defaults = _flatten(json.loads(json.dumps(to_dict(TrainConfig()))))
    # These schedules fall over the whole run, so a longer run has a different schedule.
    may_change = _MAY_CHANGE - ({"epochs"} if config.optimizer.schedule in ("cosine", "one-cycle") else set())
    changed = [
        f"{key}: {then.get(key, defaults.get(key))} then, {now.get(key, 'unknown to this version')} now"
        for key in sorted(now.keys() | then.keys())
        if not {key, key.partition(".")[0]} & may_change
        and then.get(key, defaults.get(key)) != now.get(key, _UNKNOWN)
    ]
    if record["dataset_fingerprint"] != manifest.fingerprint:
        changed.append("the dataset differs")
    if changed:
        raise ConflictError(
            f"The run {run} exists with another config ({'; '.join(changed)}). "
            "Choose another --name, or give the same flags to continue it."
        )


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a config with one entry per field, named as its flag is: `optimizer.name`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        group = "model" if key == "model_options" else key
        flat |= _flatten(value, f"{prefix}{group}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _check_row_order(record: RunRecord, run: str) -> None:
    """Checks that the run began with the rows and the order that this version would continue it with."""
    version = record.get("row_order", 1)
    if version != ROW_ORDER_VERSION:
        raise ConflictError(
            f"The run {run} was started by another version, which chooses other validation rows and batches "
            f"(row order {version}, expected {ROW_ORDER_VERSION}). Choose another --name, or continue it with that "
            "version."
        )
