"""Finds what to evaluate: checkpoints of this project, or any Keras model file. Reads bytes and manifests, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import CheckpointError, ConfigError, InputError, ModelError
from cnnlib.evaluate_config import EvaluateConfig, ModelInputs
from cnnlib.evaluation.class_map import map_classes
from cnnlib.evaluation.foreign.files import explain_foreign_file
from cnnlib.models.source import ModelSource
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.runs.checkpoints import Checkpoint, find_checkpoint, resolve_checkpoint
from cnnlib.runs.record import RunRecord, find_run_record
from cnnlib.storage import files, layout, publish
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import normalize_uri, uri_name

OutputKind = Literal["probabilities", "logits"]
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One model file, and what is known about it.

    Attributes:
        uri: the checkpoint's folder, or the model file.
        model_uri: the model file.
        digest: sha256 (hex) of the model file.
        pixel_range: the range of the pixels that the model takes; None: the predictor finds it out.
        model: the model's name; the file's name if it is no checkpoint of this project.
        run, step, epoch: where the checkpoint comes from; None for a model file.
        recipe, run_started_at: of the record of its run; None if there is none, or before `describe_runs`.
        trained_at: when its epoch ended, ISO 8601; None if that is not known.
        source: how to build a user's own model of a checkpoint again; None for every other model.
        outputs: probabilities or logits, as the checkpoint's manifest states it; None: the predictor finds it out.
        class_names: the classes that the checkpoint was trained on; None for a model file.
        columns: the model's output for every class of the data; None: in the same order.
        is_predictions: True if the file holds predictions and no model.
    """

    uri: str
    model_uri: str
    digest: str
    pixel_range: ModelInputs | None
    model: str
    run: str | None = None
    step: int | None = None
    epoch: int | None = None
    recipe: str | None = None
    run_started_at: str | None = None
    trained_at: str | None = None
    source: ModelSource | None = None
    outputs: OutputKind | None = None
    class_names: tuple[str, ...] | None = None
    columns: tuple[int, ...] | None = None
    is_predictions: bool = False

    def num_outputs(self, num_classes: int) -> int:
        """Returns the number of outputs that the model must have for data of so many classes."""
        return num_classes if self.columns is None or self.class_names is None else len(self.class_names)

    def subject(self, config: EvaluateConfig, dataset_uri: str, manifest: Manifest) -> ReportSubject:
        """Returns what a report of this target on this data is about; the report's id follows from it."""
        return ReportSubject(
            checkpoint_digest=self.digest,
            dataset_fingerprint=manifest.fingerprint,
            split=config.split,
            evaluation={
                "pixel_range": self.pixel_range or "auto",
                "outputs": config.outputs,
                "top_k": min(config.top_k, manifest.num_classes),
                **({"predictions": True} if self.is_predictions else {}),
                **({} if config.tta == "none" else {"tta": config.tta}),
                **({} if self.columns is None else {"class_map": ",".join(map(str, self.columns))}),
                **_added_rows(config),
            },
            class_names=manifest.class_names,
            checkpoint_uri=self.uri,
            dataset_uri=dataset_uri,
            run=self.run,
            model=self.model,
            recipe=self.recipe,
            run_started_at=self.run_started_at,
            trained_at=self.trained_at,
            checkpoint_step=self.step,
            checkpoint_epoch=self.epoch,
        )

    def report_id(self, config: EvaluateConfig, dataset_uri: str, manifest: Manifest) -> str:
        """Returns the id of the report of this target on this data."""
        return report_id(self.subject(config, dataset_uri, manifest))


def find_target(name: str, pixel_range: ModelInputs | None) -> Target:
    """Finds the target that a command line names: RUNS/NAME[@epoch|@best|@last], a checkpoint's folder or a model file.

    Args:
        name: what the command line names.
        pixel_range: the range of the pixels that the model takes; None: what the checkpoint's manifest states, or, for
            a model file, what the predictor finds out.

    Raises:
        CheckpointError: there is no such checkpoint.
        NotFoundError: there is no such file.
        ModelError: it is a file of another kind.
    """
    if name.lower().endswith(MODEL_SUFFIXES):
        uri = normalize_uri(name)
        own = _find_checkpoint_of(uri)
        if own is not None:
            return target_of_checkpoint(own, pixel_range)
        digest = publish.sha256_hex(files.read_bytes(uri))
        return Target(uri=uri, model_uri=uri, digest=digest, pixel_range=pixel_range, model=uri_name(uri))
    try:
        checkpoint = resolve_checkpoint(name)
    except InputError as err:
        foreign = explain_foreign_file(normalize_uri(name))
        if foreign is None:
            raise
        raise ModelError(foreign) from err
    return target_of_checkpoint(checkpoint, pixel_range)


def describe_runs(targets: Sequence[Target]) -> list[Target]:
    """Returns targets with the recipe and the start of their run; each run's record is read once."""
    runs = sorted({layout.run_of_checkpoint(target.uri) for target in targets if target.run is not None})
    records = dict(zip(runs, map_threads(_find_record, runs), strict=True))
    described = []
    for target in targets:
        record = None if target.run is None else records[layout.run_of_checkpoint(target.uri)]
        if record is not None:
            recipe, started_at = record.get("recipe"), record.get("started_at")
            target = replace(target, recipe=recipe, run_started_at=started_at)
        described.append(target)
    return described


def fit_classes(target: Target, class_map: Sequence[str], manifest: Manifest) -> Target:
    """Returns a target whose outputs are mapped to the classes of the data; see `EvaluateConfig.class_map`.

    Raises:
        ModelError: the checkpoint was trained on other classes.
        ConfigError: the class map names a class that does not exist, or the classes of a model file are not known.
    """
    if target.class_names is None:
        if class_map:
            raise ConfigError(
                f"class_map needs a checkpoint, whose manifest names its classes. Received {target.uri}."
            )
        return target
    columns = map_classes(target.class_names, manifest.class_names, class_map, target.uri)
    return target if columns is None else replace(target, columns=columns)


def _find_record(run: str) -> RunRecord | None:
    try:
        return find_run_record(run)
    except InputError:
        return None  # it is damaged, which concerns whoever continues the run


def _find_time(checkpoint: Checkpoint) -> str | None:
    """Returns when the epoch of a checkpoint ended, ISO 8601; None if that is not known."""
    time = checkpoint.record.time if checkpoint.record else None
    return None if time is None else time.isoformat()


def _find_checkpoint_of(model_uri: str) -> Checkpoint | None:
    """Returns the checkpoint whose model file this is; None for a file of another origin."""
    folder, _, name = model_uri.rpartition("/")
    if name != layout.CHECKPOINT_MODEL:
        return None
    try:
        return find_checkpoint(folder)
    except InputError:
        if layout.find_epoch(uri_name(folder)) is not None:
            raise
        return None  # a manifest of something else lies beside it


def _added_rows(config: EvaluateConfig) -> dict[str, str | int | bool]:
    """Returns the settings that add rows to a report, and so make it another report; empty without any."""
    added: dict[str, str | int | bool] = {}
    if config.slice_by:
        added["slice_by"] = ",".join(config.slice_by)
        if config.slice_quantiles != EvaluateConfig().slice_quantiles:
            added["slice_quantiles"] = config.slice_quantiles
    if config.corruptions:
        added["corruptions"] = True
    return added


def target_of_checkpoint(checkpoint: Checkpoint, pixel_range: ModelInputs | None) -> Target:
    """Returns a checkpoint as a target; see `find_target` for the pixel range."""
    return Target(
        uri=checkpoint.uri,
        model_uri=checkpoint.model_uri,
        digest=checkpoint.digest,
        pixel_range=pixel_range or _checked(checkpoint, "pixel_range", get_args(ModelInputs)),
        model=checkpoint.model,
        run=checkpoint.run,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        trained_at=_find_time(checkpoint),
        source=checkpoint.source,
        outputs=None if checkpoint.outputs is None else _checked(checkpoint, "outputs", get_args(OutputKind)),
        class_names=checkpoint.class_names,
    )


def _checked(checkpoint: Checkpoint, entry: str, known: tuple[str, ...]) -> Any:
    value = getattr(checkpoint, entry)
    if value not in known:
        raise CheckpointError(
            f"The manifest of {checkpoint.uri} has {entry} {value!r}. Expected {' or '.join(known)}."
        )
    return value
