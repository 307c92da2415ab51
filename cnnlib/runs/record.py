"""The record of a training run, `run.json`: what the run was started with. It is written before the first step."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict, cast

from cnnlib.config import TrainConfig, to_dict
from cnnlib.errors import InputError, NotFoundError
from cnnlib.feed.feed import Cache
from cnnlib.feed.order import ROW_ORDER_VERSION
from cnnlib.storage import files, layout, publish


class RunRecord(TypedDict):
    """What `run.json` holds.

    Attributes:
        recipe: name of the recipe that the config came from; None if it came from none. Old runs lack this key.
        config: the config as `to_dict` gives it.
        cache: where the run keeps its rows, `memory` or `none`. It stays the same when the run continues.
        validation_split: the split of the validation rows; None if there is none. Old runs lack this key: None.
        row_order: `ROW_ORDER_VERSION` of the version that started the run. Old runs lack this key: 1.
        started_at: when the run was first started, ISO 8601, UTC.
    """

    recipe: NotRequired[str | None]
    config: dict[str, Any]
    cache: Cache
    validation_split: NotRequired[str | None]
    row_order: NotRequired[int]
    dataset_uri: str
    dataset_fingerprint: str
    started_at: str


def build_run_record(
    config: TrainConfig,
    *,
    recipe: str | None,
    cache: Cache,
    validation_split: str | None,
    dataset_uri: str,
    dataset_fingerprint: str,
) -> RunRecord:
    """Builds the record of a run that starts now."""
    return {
        "recipe": recipe,
        "config": to_dict(config),
        "cache": cache,
        "validation_split": validation_split,
        "row_order": ROW_ORDER_VERSION,
        "dataset_uri": dataset_uri,
        "dataset_fingerprint": dataset_fingerprint,
        "started_at": datetime.now(UTC).isoformat(),
    }


def write_run_record(run: str, record: RunRecord) -> bool:
    """Writes `run.json` unless it exists; returns True if this call wrote it."""
    return files.create_bytes(layout.run_record(run), publish.canonical_json(dict(record)))


def find_run_record(run: str) -> RunRecord | None:
    """Reads the record of a run; None if there is no such run.

    Raises:
        InputError: the file is no such record.
    """
    uri = layout.run_record(run)
    try:
        document = publish.read_manifest(uri)
        publish.entry(document, "config", dict)
        for name in ("cache", "dataset_uri", "dataset_fingerprint", "started_at"):
            publish.entry(document, name, str)
        for name in {"recipe", "validation_split"} & document.keys():
            publish.entry(document, name, str, type(None))
        publish.entry({"row_order": 1, **document}, "row_order", int)
    except NotFoundError:
        return None
    except (KeyError, TypeError) as err:
        raise InputError(
            f"{uri} has a missing or invalid entry: {type(err).__name__}: {err}. Expected the record of a run, written "
            "by jobs.train."
        ) from err
    return cast(RunRecord, document)
