"""Finds what to evaluate: checkpoints of this project, or any Keras model file. Reads bytes and manifests, no model."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import InputError, ModelError
from cnnlib.evaluate_config import EvaluateConfig, PixelRange
from cnnlib.evaluation.foreign_files import explain_foreign_file
from cnnlib.models.source import ModelSource
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.runs.checkpoints import Checkpoint, resolve_checkpoint
from cnnlib.storage import files, publish
from cnnlib.storage.uri import normalize_uri, uri_name

MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One model file, and what is known about it.

    Attributes:
        uri: the checkpoint's folder, or the model file.
        model_uri: the model file.
        digest: sha256 (hex) of the model file.
        pixel_range: the range of the pixels that the model takes.
        model: the model's name; the file's name if it is no checkpoint of this project.
        run, step, epoch: where the checkpoint comes from; None for a model file.
        source: how to build a user's own model of a checkpoint again; None for every other model.
    """

    uri: str
    model_uri: str
    digest: str
    pixel_range: PixelRange
    model: str
    run: str | None = None
    step: int | None = None
    epoch: int | None = None
    source: ModelSource | None = None

    def subject(self, config: EvaluateConfig, dataset_uri: str, manifest: Manifest) -> ReportSubject:
        """Returns what a report of this target on this data is about; the report's id follows from it."""
        return ReportSubject(
            checkpoint_digest=self.digest,
            dataset_fingerprint=manifest.fingerprint,
            split=config.split,
            evaluation={
                "pixel_range": self.pixel_range,
                "outputs": config.outputs,
                "top_k": min(config.top_k, manifest.num_classes),
                **_added_rows(config),
            },
            class_names=manifest.class_names,
            checkpoint_uri=self.uri,
            dataset_uri=dataset_uri,
            run=self.run,
            model=self.model,
            checkpoint_step=self.step,
            checkpoint_epoch=self.epoch,
        )

    def report_id(self, config: EvaluateConfig, dataset_uri: str, manifest: Manifest) -> str:
        """Returns the id of the report of this target on this data."""
        return report_id(self.subject(config, dataset_uri, manifest))


def find_target(name: str, pixel_range: PixelRange | None) -> Target:
    """Finds the target that a command line names: RUNS/NAME[@epoch|@best|@last], a checkpoint's folder or a model file.

    Args:
        name: what the command line names.
        pixel_range: the range of the pixels that the model takes; None: 0-255 for a checkpoint of this project, 0-1 for
            a model file, as in most tutorials.

    Raises:
        CheckpointError: there is no such checkpoint.
        NotFoundError: there is no such file.
        ModelError: it is a file of another kind.
    """
    if name.lower().endswith(MODEL_SUFFIXES):
        uri = normalize_uri(name)
        digest = publish.sha256_hex(files.read_bytes(uri))
        return Target(
            uri=uri, model_uri=uri, digest=digest, pixel_range=pixel_range or "0-1", model=uri_name(uri)
        )
    try:
        checkpoint = resolve_checkpoint(name)
    except InputError as err:
        foreign = explain_foreign_file(normalize_uri(name))
        if foreign is None:
            raise
        raise ModelError(foreign) from err
    return target_of_checkpoint(checkpoint, pixel_range)


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


def target_of_checkpoint(checkpoint: Checkpoint, pixel_range: PixelRange | None) -> Target:
    """Returns a checkpoint as a target; see `find_target` for the pixel range."""
    return Target(
        uri=checkpoint.uri,
        model_uri=checkpoint.model_uri,
        digest=checkpoint.digest,
        pixel_range=pixel_range or "0-255",
        model=checkpoint.model,
        run=checkpoint.run,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        source=checkpoint.source,
    )
