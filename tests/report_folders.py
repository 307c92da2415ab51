"""Writes folders of reports with chosen metrics, without an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from cnnlib.metrics.intervals import proportion
from cnnlib.reports.schema import COLUMNS, REPORT_VERSION, table_schema
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes

CLASS_NAMES = ("Coat", 'Bag "new"')
_ROWS = 100


def write_metrics(
    reports: str,
    *,
    minute: int = 0,
    correct: int = 80,
    overall: Mapping[str, Any] | None = None,
    classes: Sequence[Mapping[str, Any]] = ({"accuracy": 0.9}, {"accuracy": 0.7}),
    **subject: Any,
) -> str:
    """Writes `overall`, `per_class` and the manifest of a report of 100 rows, and returns its id.

    Args:
        minute: the minute in which the evaluation ended.
        overall: columns of the whole split that differ from the default: null, 0 or the subject's value.
        classes: columns that differ, of each class.
        subject: fields of the subject that differ.
    """
    about = _subject(minute, **subject)
    name, at = report_id(about), datetime(2026, 11, 22, 6, minute, tzinfo=UTC)
    fraction = proportion(correct, _ROWS)
    summary = {
        "rows": _ROWS,
        "correct": correct,
        "accuracy": fraction.fraction,
        "accuracy_low": fraction.low,
        "accuracy_high": fraction.high,
        "loss": 0.5,
        "top_k": 1,
        "top_k_accuracy": fraction.fraction,
    }
    keys = {**about.to_columns(), "report_id": name, "evaluated_at": at}
    whole = {**keys, **summary, "seconds": 2.0, "images_per_s": 50.0, **(overall or {})}
    slices = [{"slice": None}, {"slice": "source=web", "accuracy": 0.01, "correct": 1}]
    each_class = [
        keys | {"class_index": index, "class_name": about.class_names[index], "support": 50} | dict(metrics)
        for index, metrics in enumerate(classes)
    ]
    tables = {
        "overall": _table("overall", [whole | part for part in slices]),
        "per_class": _table("per_class", [row | part for part in slices for row in each_class]),
    }
    objects = {}
    for table, data in tables.items():
        files.write_bytes(layout.report_table(reports, table, name), data)
        objects[table] = {
            "name": f"{table}/{name}.parquet",
            "bytes": len(data),
            "sha256": publish.sha256_hex(data),
            "rows": 2 if table == "overall" else 2 * len(each_class),
        }
    manifest = {
        "report_version": REPORT_VERSION,
        "report_id": name,
        "subject": about.to_document(),
        "evaluated_at": at.isoformat(),
        "seconds": 2.0,
        **summary,
        "objects": objects,
    }
    publish.write_manifest(layout.report_manifest(reports, name), manifest)
    return name


def write_gates(reports: str, name: str, verdicts: Sequence[str], *, minute: int, digest: str = "d1") -> None:
    """Writes the table `gates` of a report, with one check per verdict."""
    at = datetime(2026, 11, 22, 7, minute, tzinfo=UTC)
    rows = [{"report_id": name, "checked_at": at, "verdict": verdict} for verdict in verdicts]
    files.write_bytes(layout.report_gates_table(reports, name, digest), _table("gates", rows))


def _subject(minute: int, **fields: Any) -> ReportSubject:
    return ReportSubject(
        **{
            "checkpoint_digest": f"digest {minute} {fields.get('run')}",
            "dataset_fingerprint": "fingerprint",
            "split": "test",
            "evaluation": {"top_k": 1},
            "class_names": CLASS_NAMES,
            "checkpoint_uri": f"/runs/demo/checkpoints/epoch-{minute:04d}",
            "dataset_uri": "/data/fashion-mnist",
            "run": "demo",
            "model": "small-cnn",
            "checkpoint_epoch": minute,
            **fields,
        }
    )


def _table(table: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Returns rows as Parquet; a column that a row leaves out is null, or 0 or empty where null is not allowed."""
    zero = {pa.string(): "", pa.int32(): 0, pa.int64(): 0, pa.float64(): 0.0}
    defaults = {column.name: None if column.nullable else zero.get(column.type) for column in COLUMNS[table]}
    return parquet_bytes(pa.Table.from_pylist([defaults | row for row in rows], schema=table_schema(table)))
