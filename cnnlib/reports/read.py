"""A folder of reports in, typed records and Arrow tables out. A report without a manifest does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from cnnlib.errors import NotFoundError, ReportError, nearest
from cnnlib.metrics.per_class import Proportion
from cnnlib.reports.build import parquet_table
from cnnlib.reports.facts import ReportSubject
from cnnlib.reports.schema import REPORT_VERSION
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri, uri_name

_MANIFEST_READERS = 16
_MAX_NAMED_IDS = 5


@dataclass(frozen=True, kw_only=True)
class StoredTable:
    """One table of a report: its object's name below the reports' folder, size and sha256 in hex."""

    name: str
    num_bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class ReportRecord:
    """What a report's manifest says.

    Attributes:
        evaluated_at: in UTC.
        loss: mean cross-entropy in nats; None for an empty split.
        top_k_accuracy: share of rows in 0..1; None for an empty split.
        tables: by table name.
    """

    report_id: str
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

    def to_row(self) -> dict[str, Any]:
        """The record as flat columns, named as in the table `overall`."""
        return {
            "report_id": self.report_id,
            "evaluated_at": self.evaluated_at,
            **self.subject.to_columns(),
            "rows": self.rows,
            "correct": self.correct,
            "accuracy": self.accuracy.share,
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
        classes: the rows of its table `per_class`, as column -> value, in the order of the class indexes.
    """

    record: ReportRecord
    classes: Sequence[Mapping[str, Any]]


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
    record = _read_record(reports_uri, report_id)
    return Report(record=record, classes=_read_stored(reports_uri, record, "per_class").to_pylist())


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
    return sorted(records, key=lambda record: (record.evaluated_at, record.report_id), reverse=True)


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
        table: overall, per_class or confusion.
        report_ids: full ids, at least one.

    Raises:
        ReportError: there is no such report, or an object is not the one in the report's manifest.
    """
    records = [_read_record(reports_uri, report_id) for report_id in report_ids]
    tables = [_read_stored(reports_uri, record, table) for record in records]
    return pa.concat_tables(part.replace_schema_metadata(tables[0].schema.metadata) for part in tables)


def read_predictions(reports_uri: str, report_id: str) -> pa.Table:
    """Reads the stored predictions of a report, by rising id.

    Raises:
        ReportError: it has none.
    """
    parts = files.list_objects(layout.report_predictions(reports_uri, report_id))
    if not parts:
        raise ReportError(f"Report {report_id} has no stored predictions.")
    return pa.concat_tables(parquet_table(files.read_bytes(part.uri)) for part in parts).sort_by("id")


def _read_record(reports_uri: str, report_id: str) -> ReportRecord:
    manifest = find_manifest(reports_uri, report_id)
    if manifest is None:
        raise ReportError(f"No report {report_id!r} in {reports_uri}.")
    return _to_record(manifest)


def _read_stored(reports_uri: str, record: ReportRecord, table: str) -> pa.Table:
    """Reads one table of one report and checks that it is the one its manifest tells of."""
    stored = record.tables[table]
    uri = join_uri(reports_uri, stored.name)
    data = files.read_bytes(uri)
    if publish.sha256_hex(data) != stored.sha256:
        raise ReportError(
            f"{uri} is not what its manifest says. Expected {stored.num_bytes} bytes of {stored.sha256}, "
            f"received {len(data)} others. Delete all objects of report {record.report_id}, evaluate again."
        )
    return parquet_table(data)


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
    return ReportRecord(
        report_id=manifest["report_id"],
        evaluated_at=datetime.fromisoformat(manifest["evaluated_at"]),
        seconds=manifest["seconds"],
        subject=ReportSubject.from_document(manifest["subject"]),
        rows=manifest["rows"],
        correct=manifest["correct"],
        accuracy=Proportion(manifest["accuracy"], manifest["accuracy_low"], manifest["accuracy_high"]),
        loss=manifest["loss"],
        top_k=manifest["top_k"],
        top_k_accuracy=manifest["top_k_accuracy"],
        tables={
            table: StoredTable(
                name=stored["name"], num_bytes=stored["bytes"], sha256=stored["sha256"], rows=stored["rows"]
            )
            for table, stored in manifest["objects"].items()
        },
    )
