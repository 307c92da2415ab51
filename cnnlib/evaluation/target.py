"""What is evaluated: a checkpoint of ours, or a model file of anyone's. Reads no model, only bytes and manifests."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlib.config import EvaluateConfig, PixelRange
from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import NotFoundError
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.runs.checkpoints import Checkpoint, list_checkpoints, list_runs, resolve_checkpoint
from cnnlib.storage import files, publish
from cnnlib.storage.uri import normalize_uri, uri_name

MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One model file and what is known of it.

    Attributes:
        digest: sha256 (hex) of the model file.
        pixel_range: what the model takes.
    """

    uri: str
    model_uri: str
    digest: str
    pixel_range: PixelRange
    model: str
    run: str | None = None
    step: int | None = None
    epoch: int | None = None

    def subject(self, config: EvaluateConfig, dataset_uri: str, manifest: Manifest) -> ReportSubject:
        """What a report of this target on this data is about; it names the report."""
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
        """The name of its report."""
        return report_id(self.subject(config, dataset_uri, manifest))


def find_target(name: str, pixel_range: PixelRange | None) -> Target:
    """The target that a command line names: RUNS/NAME[@epoch|@best|@last], a checkpoint's folder, or a model file.

    Args:
        pixel_range: what the model takes; None: 0-255 for our checkpoints, 0-1 for a file, as tutorials train.

    Raises:
        CheckpointError: there is no such checkpoint.
        NotFoundError: there is no such file.
    """
    if name.endswith(MODEL_SUFFIXES):
        uri = normalize_uri(name)
        digest = publish.sha256_hex(files.read_bytes(uri))
        return Target(
            uri=uri, model_uri=uri, digest=digest, pixel_range=pixel_range or "0-1", model=uri_name(uri)
        )
    return _from_checkpoint(resolve_checkpoint(name), pixel_range)


def find_all_targets(runs_uri: str, pixel_range: PixelRange | None) -> list[Target]:
    """Every whole checkpoint of every run below a folder, by run and epoch.

    Raises:
        NotFoundError: there is no run below it: a schedule with a typo would be silent for ever.
    """
    runs = list_runs(runs_uri)
    if not runs:
        raise NotFoundError(f"{runs_uri} holds no run. Expected the --runs folder of jobs.train.")
    checkpoints = [checkpoint for run in runs for checkpoint in list_checkpoints(run)]
    return [_from_checkpoint(checkpoint, pixel_range) for checkpoint in checkpoints]


def _added_rows(config: EvaluateConfig) -> dict[str, str | int | bool]:
    """What adds rows to a report, so that it is another report; nothing where the config asks for none."""
    added: dict[str, str | int | bool] = {}
    if config.slice_by:
        added["slice_by"] = ",".join(config.slice_by)
        if config.slice_quantiles != EvaluateConfig().slice_quantiles:
            added["slice_quantiles"] = config.slice_quantiles
    if config.corruptions:
        added["corruptions"] = True
    return added


def _from_checkpoint(checkpoint: Checkpoint, pixel_range: PixelRange | None) -> Target:
    return Target(
        uri=checkpoint.uri,
        model_uri=checkpoint.model_uri,
        digest=checkpoint.digest,
        pixel_range=pixel_range or "0-255",
        model=checkpoint.model,
        run=checkpoint.run,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
    )
