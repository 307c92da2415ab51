"""A folder of reports in, typed records and Arrow tables out. A report without a manifest does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from cnnlib.errors import NotFoundError, ReportError, nearest
from cnnlib.metrics.intervals import Proportion
from cnnlib.reports.schema import REPORT_VERSION, table_schema
from cnnlib.reports.subject import ReportSubject, StoredTable
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_table
from cnnlib.storage.uri import join_uri, uri_name

_MANIFEST_READERS = 16
_MAX_NAMED_IDS = 5


@dataclass(frozen=True, kw_only=True)
class ReportRecord:
    """What a report's manifest says; its figures are those of the whole split.

    Attributes:
        version: of the report's tables: columns that a later version added are null in it.
        evaluated_at: in UTC.
        loss: mean cross-entropy in nats; None for an empty split.
        top_k_accuracy: share of rows in 0..1; None for an empty split.
        tables: by table name.
        predictions: the parts of the table `predictions`; None where they are not stored.
    """

    report_id: str
    version: int
    evaluated_at: datetime
    seconds: float
    subject: ReportSubject
    rows: int
    correct: int
    accuracy: Proportion
    loss: float | None
    top_k: int
    top_k_accuracy: float | None
    tables: Mapping[str, StoredTable]
    predictions: tuple[StoredTable, ...] | None

    @property
    def age(self) -> tuple[datetime, int, str]:
        """What orders reports, rising from the oldest: those of one pass end together, then the epochs decide."""
        return self.evaluated_at, self.subject.checkpoint_epoch or 0, self.report_id

    @property
    def scored_rows(self) -> tuple[str, str]:
        """What tells sets of rows apart: reports of equal ones were scored on the same rows."""
        return self.subject.dataset_fingerprint, self.subject.split

    def to_row(self) -> dict[str, Any]:
        """The record as flat columns, named as in the table `overall`."""
        return {
            "report_id": self.report_id,
            "evaluated_at": self.evaluated_at,
            **self.subject.to_columns(),
            "rows": self.rows,
            "correct": self.correct,
            "accuracy": self.accuracy.fraction,
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
            "loss": self.loss,
            "top_k": self.top_k,
            "top_k_accuracy": self.top_k_accuracy,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report as people read it.

    Attributes:
        record: what its manifest says.
        overall: the row of its table `overall` about the whole split, as column -> value.
        classes: the rows of its table `per_class` about the whole split, in the order of the class indexes.
        slices: the rows of `overall` about parts of the split.
        slice_classes: the rows of `per_class` about each of them, by the slice's name.
    """

    record: ReportRecord
    overall: Mapping[str, Any]
    classes: Sequence[Mapping[str, Any]]
    slices: Sequence[Mapping[str, Any]] = ()
    slice_classes: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def find_manifest(reports_uri: str, report_id: str) -> dict[str, Any] | None:
    """The manifest of a report as it is stored; None where there is no such report."""
    try:
        return publish.read_manifest(layout.report_manifest(reports_uri, report_id))
    except NotFoundError:
        return None


def read_report(reports_uri: str, report_id: str) -> Report:
    """Reads one report.

    Args:
        reports_uri: the folder of all reports.
        report_id: all 16 digits; `resolve` finds them.

    Raises:
        ReportError: there is no such report, it is damaged, or a newer version of this project wrote it.
    """
    return complete_record(reports_uri, read_record(reports_uri, report_id))


def complete_record(reports_uri: str, record: ReportRecord) -> Report:
    """Reads the tables of a report whose manifest is read.

    Raises:
        ReportError: it is damaged.
    """
    overall = read_overall(reports_uri, record)
    classes = _read_table(reports_uri, record, "per_class").to_pylist()
    slices = [row for row in overall if row["slice"] is not None]
    return Report(
        record=record,
        overall=next(row for row in overall if row["slice"] is None),
        classes=[row for row in classes if row["slice"] is None],
        slices=slices,
        slice_classes={
            part["slice"]: [row for row in classes if row["slice"] == part["slice"]] for part in slices
        },
    )


def read_overall(reports_uri: str, record: ReportRecord) -> list[dict[str, Any]]:
    """Reads the rows of a report's table `overall` as column -> value: of the whole split, and of its slices.

    Raises:
        ReportError: the object is not the one in the report's manifest.
    """
    rows: list[dict[str, Any]] = _read_table(reports_uri, record, "overall").to_pylist()
    return rows


def list_reports(reports_uri: str) -> list[ReportRecord]:
    """Reads the records of all reports, newest first.

    Raises:
        ReportError: there are none, or a newer version of this project wrote one.
    """
    uris = [layout.report_manifest(reports_uri, report_id) for report_id in _list_ids(reports_uri)]
    if not uris:
        raise ReportError(
            f"No reports in {reports_uri}. Check the path, or write one: python -m jobs.evaluate."
        )
    # Names are hashes, so the newest is known only once all are read; from a bucket one takes tens of ms.
    with ThreadPoolExecutor(_MANIFEST_READERS) as pool:
        records = [_to_record(manifest) for manifest in pool.map(publish.read_manifest, uris)]
    return sorted(records, key=lambda record: record.age, reverse=True)


def resolve(reports_uri: str, name: str) -> str:
    """Returns the full id of the report that a person means.

    Args:
        reports_uri: the folder of all reports.
        name: an id, the first digits of one while they are unique, `latest`, or `previous` (the one before).

    Raises:
        ReportError: nothing has that name, or several have.
    """
    if name in ("latest", "previous"):
        return _resolve_by_age(reports_uri, name)
    known = _list_ids(reports_uri)
    matches = [report_id for report_id in known if name and report_id.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ReportError(
            f"{name!r} is short for {len(matches)} reports: {_enumerate(matches)}. Give more digits."
        )
    hint = nearest(name, known) if len(known) <= _MAX_NAMED_IDS else f"It holds {len(known)} others."
    raise ReportError(f"No report {name!r} in {reports_uri}. {hint if known else 'It holds none.'}")


def read_table(reports_uri: str, table: str, report_ids: Iterable[str]) -> pa.Table:
    """Reads a table of some reports as one, in the order of the ids.

    Args:
        reports_uri: the folder of all reports.
        table: overall, per_class, confusion, calibration or activations. Columns that a report of an earlier
            version lacks are null.
        report_ids: full ids, at least one.

    Raises:
        ReportError: there is no such report, it has no such table, or an object is not the one in the report's
            manifest.
    """
    records = [read_record(reports_uri, report_id) for report_id in report_ids]
    return pa.concat_tables(
        [_read_table(reports_uri, record, table) for record in records], promote_options="default"
    )


def read_record(reports_uri: str, report_id: str) -> ReportRecord:
    """Reads what a report's manifest says.

    Raises:
        ReportError: there is no such report, or a newer version of this project wrote it.
    """
    manifest = find_manifest(reports_uri, report_id)
    if manifest is None:
        raise ReportError(f"No report {report_id!r} in {reports_uri}.")
    return _to_record(manifest)


def read_stored(reports_uri: str, record: ReportRecord, stored: StoredTable) -> pa.Table:
    """Reads one object of a report.

    Raises:
        NotFoundError: it is gone.
        ReportError: it is not the one that the report's manifest tells of.
    """
    uri = join_uri(reports_uri, stored.name)
    data = files.read_bytes(uri)
    if publish.sha256_hex(data) != stored.sha256:
        raise ReportError(
            f"{uri} is not what its manifest says. Expected {stored.num_bytes} bytes of {stored.sha256}, "
            f"received {len(data)} others. Delete all objects of report {record.report_id}, evaluate again."
        )
    return parquet_table(data)


def _read_table(reports_uri: str, record: ReportRecord, table: str) -> pa.Table:
    if table not in record.tables:
        raise ReportError(
            f"Report {record.report_id} has no table {table}: it has version {record.version}. Evaluate again: "
            "this version gives it another id."
        )
    return _fill_up(read_stored(reports_uri, record, record.tables[table]), table_schema(table))


def _fill_up(stored: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of today's schema; what an earlier version did not have is null."""
    if stored.column_names == schema.names:
        return stored.replace_schema_metadata(schema.metadata)
    have = set(stored.column_names)
    columns = [
        stored[field.name] if field.name in have else pa.nulls(len(stored), field.type) for field in schema
    ]
    return pa.table(
        columns, schema=pa.schema([field.with_nullable(True) for field in schema], schema.metadata)
    )


def _list_ids(reports_uri: str) -> list[str]:
    names = (uri_name(stored.uri) for stored in files.list_objects(layout.report_manifests(reports_uri)))
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def _resolve_by_age(reports_uri: str, name: str) -> str:
    reports, position = list_reports(reports_uri), ("latest", "previous").index(name)
    if len(reports) <= position:
        raise ReportError(f"No {name} report in {reports_uri}: it holds {len(reports)}.")
    return reports[position].report_id


def _enumerate(report_ids: Sequence[str]) -> str:
    shown = ", ".join(report_ids[:_MAX_NAMED_IDS])
    return shown + (", …" if len(report_ids) > _MAX_NAMED_IDS else "")


def _to_record(manifest: Mapping[str, Any]) -> ReportRecord:
    if "report_version" not in manifest:
        raise ReportError(
            f"Not the manifest of a report; it holds {', '.join(sorted(manifest)) or 'nothing'}."
        )
    if manifest["report_version"] > REPORT_VERSION:
        raise ReportError(
            f"Report {manifest['report_id']} has version {manifest['report_version']}, "
            f"this cnnlib reads up to {REPORT_VERSION}. Update cnnlib."
        )
    predictions = manifest.get("predictions")  # version 1 did not list them
    return ReportRecord(
        report_id=manifest["report_id"],
        version=manifest["report_version"],
        evaluated_at=datetime.fromisoformat(manifest["evaluated_at"]),
        seconds=manifest["seconds"],
        subject=ReportSubject.from_document(manifest["subject"]),
        rows=manifest["rows"],
        correct=manifest["correct"],
        accuracy=Proportion(manifest["accuracy"], manifest["accuracy_low"], manifest["accuracy_high"]),
        loss=manifest["loss"],
        top_k=manifest["top_k"],
        top_k_accuracy=manifest["top_k_accuracy"],
        tables={name: StoredTable.from_document(stored) for name, stored in manifest["objects"].items()},
        predictions=None if predictions is None else tuple(map(StoredTable.from_document, predictions)),
    )
