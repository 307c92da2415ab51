"""The record of a training run, `run.json`: what it was started with. Written once, before its first step."""

from __future__ import annotations

from typing import Any

from cnnlib.errors import NotFoundError
from cnnlib.storage import files, layout, publish


def write_run_record(run: str, record: dict[str, Any]) -> bool:
    """Writes `run.json` unless the run exists; True if this call did."""
    return files.create_bytes(layout.run_record(run), publish.canonical_json(record))


def find_run_record(run: str) -> dict[str, Any] | None:
    """What a run was started with, None where there is no such run."""
    try:
        return publish.read_manifest(layout.run_record(run))
    except NotFoundError:
        return None
