"""Finds training runs and their checkpoints in storage. Reads only their JSON.

A checkpoint is a folder with `model.keras`, `state.npz` and, written last, `manifest.json`. A folder without a manifest
is not a checkpoint. Training writes checkpoints (`training/state/checkpoint.py`), and the evaluation reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.errors import CheckpointError, NotFoundError
from cnnlib.model_options import ModelOptions
from cnnlib.models.source import ModelSource
from cnnlib.runs.history import EpochRecord
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri, normalize_uri, uri_name

CHECKPOINT_VERSION = 1
SELECTORS = ("last", "best")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that is complete.

    Attributes:
        model: name of the model, with the options that were given.
        digest: sha256 (hex) of `model.keras`.
        state_digest: sha256 (hex) of `state.npz`.
        step: training steps since the run began.
        score: the metric by which the best checkpoint is selected, 0..1: the validation accuracy if the run has
            validation rows, else the accuracy on the epoch's training rows.
        scored_on: the name of that metric, `validation_accuracy` or `accuracy`.
        class_names, image_shape: of the data that it was trained on; None if the manifest does not state them.
        pixel_range: the range of the pixels that the model takes, as `--pixel-range` spells it.
        outputs: probabilities or logits; None if the manifest does not state it.
        record: the record of its epoch; None if the manifest does not state it.
        source: how to build a user's own model again; None for a model of this project.
    """

    uri: str
    run: str
    model: str
    epoch: int
    step: int
    digest: str
    state_digest: str
    score: float
    scored_on: str
    class_names: tuple[str, ...] | None = None
    image_shape: tuple[int, ...] | None = None
    pixel_range: str = "0-255"
    outputs: str | None = None
    record: EpochRecord | None = None
    source: ModelSource | None = None

    @property
    def model_uri(self) -> str:
        """URI of the Keras file."""
        return join_uri(self.uri, layout.CHECKPOINT_MODEL)

    @property
    def state_uri(self) -> str:
        """URI of the state of the optimizer and the random layers."""
        return join_uri(self.uri, layout.CHECKPOINT_STATE)


@dataclass(frozen=True, kw_only=True)
class FoundCheckpoint:
    """A checkpoint that a listing shows, before its manifest is read.

    Attributes:
        uri: its folder.
        run: the URI of its run.
        version: a text that changes when its manifest or its model file is replaced.
        has_model: False if only the manifest is left of it.
    """

    uri: str
    run: str
    epoch: int
    version: str
    has_model: bool


def scan_runs(runs_uri: str) -> list[FoundCheckpoint]:
    """Finds all checkpoints with a manifest below a folder of runs, sorted by run and epoch, with a single listing.

    Raises:
        NotFoundError: there is no run below the folder. A scheduled job with a typo must not do nothing for ever.
    """
    root = normalize_uri(runs_uri)
    listed = {stored.uri.removeprefix(root).lstrip("/"): stored for stored in files.list_objects(root)}
    runs = [name.split("/")[0] for name in listed if name.count("/") == 1 and name.endswith("/run.json")]
    if not runs:
        raise NotFoundError(f"{runs_uri} holds no run. Expected the --runs folder of jobs.train.")
    found = []
    for name, stored in listed.items():
        parts = name.split("/")
        epoch = layout.find_epoch(parts[2]) if len(parts) == 4 and parts[3] == layout.MANIFEST else None
        if epoch is None or parts[0] not in runs:
            continue
        model = listed.get("/".join([*parts[:3], layout.CHECKPOINT_MODEL]))
        found.append(
            FoundCheckpoint(
                uri=stored.uri.removesuffix(f"/{layout.MANIFEST}"),
                run=layout.run_uri(root, parts[0]),
                epoch=epoch,
                version=f"{stored[1:]} {model[1:] if model else ''}",
                has_model=model is not None,
            )
        )
    return sorted(found, key=lambda each: (each.run, each.epoch))


def list_checkpoints(run: str) -> list[Checkpoint]:
    """Lists the complete checkpoints of a run, by epoch."""
    epochs = [layout.find_epoch(name) for name in files.list_folders(layout.run_checkpoints(run))]
    found = [
        find_checkpoint(layout.checkpoint_uri(run, epoch))
        for epoch in sorted(e for e in epochs if e is not None)
    ]
    return [checkpoint for checkpoint in found if checkpoint is not None]


def find_checkpoint(uri: str) -> Checkpoint | None:
    """Reads the checkpoint in a folder; None if there is none, or only a part of one.

    Raises:
        CheckpointError: another version of this project wrote it.
    """
    try:
        document = publish.read_manifest(join_uri(uri, layout.MANIFEST))
    except NotFoundError:
        return None
    if document.get("checkpoint_version") != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{uri} has checkpoint_version {document.get('checkpoint_version')!r}. "
            f"This version reads {CHECKPOINT_VERSION}."
        )
    try:
        return Checkpoint(
            uri=uri,
            run=document["run"],
            model=_find_options(document).label(document["model"]),
            epoch=document["epoch"],
            step=document["step"],
            digest=document["files"][layout.CHECKPOINT_MODEL]["sha256"],
            state_digest=document["files"][layout.CHECKPOINT_STATE]["sha256"],
            score=document["score"],
            scored_on=document["scored_on"],
            class_names=_find_tuple(document, "class_names"),
            image_shape=_find_tuple(document, "image_shape"),
            pixel_range=document.get("pixel_range", Checkpoint.pixel_range),
            outputs=document.get("outputs"),
            record=EpochRecord.from_document(document["record"]) if document.get("record") else None,
            source=_find_source(document),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise CheckpointError(
            f"The manifest of {uri} has a missing or invalid entry: {type(err).__name__}: {err}."
        ) from err


def resolve_checkpoint(name: str) -> Checkpoint:
    """Finds `RUNS/NAME`, `RUNS/NAME@last`, `RUNS/NAME@best`, `RUNS/NAME@7` or a checkpoint's own folder.

    Without a selector it finds the last checkpoint. The best one has the highest `score`; among equals it is the
    earliest.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    base, _, selector = name.rpartition("@")
    if not base or "/" in selector:
        base, selector = name, "last"
    uri = normalize_uri(base)
    if layout.find_epoch(uri_name(uri)) is not None:
        return _require_complete(uri)
    checkpoints = list_checkpoints(uri)
    if not checkpoints:
        raise CheckpointError(
            f"{uri} has no checkpoint. Expected a run (RUNS/NAME), a checkpoint's folder, or a .keras or .h5 file."
        )
    if selector in SELECTORS:
        return dict(zip(SELECTORS, last_and_best(checkpoints), strict=True))[selector]
    by_epoch = {str(each.epoch): each for each in checkpoints}
    if selector not in by_epoch:
        raise CheckpointError(
            f"{uri} has no checkpoint {selector!r}. "
            f"Expected {', '.join(SELECTORS)} or one of the epochs {', '.join(by_epoch)}."
        )
    return by_epoch[selector]


def last_and_best(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, Checkpoint]:
    """Returns the last and the best of a run's checkpoints: the highest `score`, among equals the earliest."""
    last = max(checkpoints, key=lambda each: each.epoch)
    return last, max(checkpoints, key=lambda each: (each.score, -each.epoch))


def find_stable(checkpoints: Sequence[Checkpoint]) -> int:
    """Returns the epoch with the lowest training loss; 0 if there is none.

    A loss grows for some steps before it overflows. So the last checkpoint often has weights from which no learning
    rate leads back.
    """
    losses = {each.epoch: each.record.loss for each in checkpoints if each.record is not None}
    if not losses:
        return checkpoints[-1].epoch if checkpoints else 0
    return min(losses, key=lambda epoch: math.inf if math.isnan(losses[epoch]) else losses[epoch])


def _find_tuple(document: dict[str, Any], name: str) -> tuple[Any, ...] | None:
    values = document.get(name)
    return None if values is None else tuple(values)


def _find_source(document: Mapping[str, Any]) -> ModelSource | None:
    """Returns how a user's own model was built. Manifests of earlier versions lack what has a default here."""
    if ":" not in document["model"] or not {"image_shape", "class_names"} <= document.keys():
        return None
    outputs = document.get("probe_outputs")
    return ModelSource(
        function=document["model"],
        image_shape=tuple(document["image_shape"]),
        num_classes=len(document["class_names"]),
        options=_find_options(document),
        dtype_policy=document.get("dtype_policy", ModelSource.dtype_policy),
        opens_in_keras=document.get("opens_in_keras", ModelSource.opens_in_keras),
        probe_outputs=None if outputs is None else tuple(map(tuple, outputs)),
    )


def _find_options(document: Mapping[str, Any]) -> ModelOptions:
    """Returns the options of a checkpoint's model. Those of earlier versions had none."""
    return ModelOptions.from_document(document.get("config", {}).get("model_options", {}))


def _require_complete(uri: str) -> Checkpoint:
    checkpoint = find_checkpoint(uri)
    if checkpoint is None:
        raise CheckpointError(f"{uri} is not a complete checkpoint: it has no {layout.MANIFEST}.")
    return checkpoint
