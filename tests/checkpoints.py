"""Writes checkpoints without a model and records of runs, for tests of everything that finds one."""

from __future__ import annotations

from typing import Any

from cnnlib.config import TrainConfig, to_dict
from cnnlib.feed.order import ROW_ORDER_VERSION
from cnnlib.runs import record as record_of_run
from cnnlib.runs.checkpoints import CHECKPOINT_VERSION
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri, uri_name


def write_checkpoint_without_model(run: str, epoch: int, score: float = 0.5, **changes: Any) -> str:
    """Writes a complete checkpoint whose files hold only a few bytes; `changes` replace manifest entries."""
    uri = layout.checkpoint_uri(run, epoch)
    contents = {
        layout.CHECKPOINT_MODEL: f"model of {run} after epoch {epoch}".encode(),
        layout.CHECKPOINT_STATE: f"state of {run} after epoch {epoch}".encode(),
    }
    for name, data in contents.items():
        files.write_bytes(join_uri(uri, name), data)
    manifest = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "run": uri_name(run),
        "model": "seed-cnn",
        "epoch": epoch,
        "step": epoch * 100,
        "score": score,
        "scored_on": "accuracy",
        "files": {
            name: {"bytes": len(data), "sha256": publish.sha256_hex(data)} for name, data in contents.items()
        },
    }
    publish.write_manifest(join_uri(uri, layout.MANIFEST), manifest | changes)
    return uri


def write_run_record(
    run: str, config: TrainConfig, dataset_fingerprint: str, recipe: str | None = "seed"
) -> None:
    """Writes `run.json` as the launch of a run does."""
    record = {
        "recipe": recipe,
        "config": to_dict(config),
        "cache": "memory",
        "row_order": ROW_ORDER_VERSION,
        "dataset_uri": "/data",
        "dataset_fingerprint": dataset_fingerprint,
        "started_at": "2026-11-22T06:00:00+00:00",
    }
    record_of_run.write_run_record(run, record)
