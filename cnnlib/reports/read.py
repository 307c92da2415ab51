"""A folder of reports in; records and Arrow tables out, checked against the manifests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cnnlib.errors import DigestError, InputError, ReportError, nearest
from cnnlib.log import log_event
from cnnlib.reports.manifest import ReportRecord, StoredTable, read_record
from cnnlib.reports.schema import table_schema
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_table
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import join_uri, uri_name

_MAX_NAMED_IDS = 5


@dataclass(frozen=True, kw_only=True)
class Report:
    """One report: its record and the rows of its tables `overall` and `per_class`, as column -> value.

    Attributes:
        record: what the manifest states.
        overall: the row of `overall` for the whole split.
        classes: the rows of `per_class` for the whole split, in the order of the class indexes.
        slices: the rows of `overall` for the slices.
        slice_classes: the rows of `per_class` for each slice, by the slice's name.
    """

    record: ReportRecord
    overall: Mapping[str, Any]
    classes: Sequence[Mapping[str, Any]]
    slices: Sequence[Mapping[str, Any]] = ()
    slice_classes: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


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
    """Reads the tables of a report whose record is known.

    Raises:
        ReportError: the report is damaged.
    """
    overall = read_overall(reports_uri, record)
    by_slice: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    for row in _read_table(reports_uri, record, "per_class").to_pylist():
        by_slice[row["slice"]].append(row)
    slices = [row for row in overall if row["slice"] is not None]
    return Report(
        record=record,
        overall=next(row for row in overall if row["slice"] is None),
        classes=by_slice[None],
        slices=slices,
        slice_classes={part["slice"]: by_slice[part["slice"]] for part in slices},
    )


def read_overall(reports_uri: str, record: ReportRecord) -> list[dict[str, Any]]:
    """Reads the rows of a report's table `overall`, whole split and slices, as column -> value.

    Raises:
        ReportError: the object is not the one in the report's manifest.
    """
    rows: list[dict[str, Any]] = _read_table(reports_uri, record, "overall").to_pylist()
    return rows


def read_table(reports_uri: str, table: str, report_ids: Iterable[str]) -> pa.Table:
    """Reads one table of several reports as a single Arrow table, in the order of the ids.

    Args:
        reports_uri: the folder of all reports.
        table: overall, per_class, confusion, calibration or activations. Columns that an earlier report version
            lacks are null.
        report_ids: full ids, at least one.

    Raises:
        ReportError: there is no such report, it has no such table, or an object is not the one in the report's
            manifest.
    """
    records = [read_record(reports_uri, report_id) for report_id in report_ids]
    return pa.concat_tables(
        [_read_table(reports_uri, record, table) for record in records], promote_options="default"
    )


def read_stored(reports_uri: str, record: ReportRecord, stored: StoredTable) -> pa.Table:
    """Reads one object of a report.

    Raises:
        NotFoundError: there is no such object.
        ReportError: the object is not the one in the report's manifest.
    """
    uri = join_uri(reports_uri, stored.name)
    try:
        return parquet_table(publish.read_checked(uri, stored.sha256))
    except DigestError as err:
        raise ReportError(
            f"{err} The manifest states {stored.num_bytes} bytes. Delete all objects of report {record.report_id}, "
            "then evaluate again."
        ) from err


def list_reports(reports_uri: str) -> list[ReportRecord]:
    """Reads the records of all reports, newest first. One that cannot be read is left out, with a log line.

    Raises:
        ReportError: there is none that can be read.
    """
    uris = [layout.report_manifest(reports_uri, report_id) for report_id in _list_ids(reports_uri)]
    if not uris:
        raise ReportError(
            f"No reports in {reports_uri}. Check the path, or write one: python -m jobs.evaluate."
        )
    # The objects are named by hashes, so the newest is known only after reading all; each takes tens of ms in a bucket.
    found = map_threads(_try_record, uris)
    records = [each for each in found if isinstance(each, ReportRecord)]
    for uri, each in zip(uris, found, strict=True):
        if isinstance(each, InputError):
            if not records:
                raise each
            log_event("report_left_out", manifest=uri, reason=str(each))
    return sorted(records, key=lambda record: record.age, reverse=True)


def resolve(reports_uri: str, name: str) -> str:
    """Returns the full id of a report.

    Args:
        reports_uri: the folder of all reports.
        name: an id, its first digits if no other id starts with them, `latest`, or `previous` (the one before).

    Raises:
        ReportError: no report has that name, or several have.
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


def _read_table(reports_uri: str, record: ReportRecord, table: str) -> pa.Table:
    if table not in record.tables:
        raise ReportError(
            f"Report {record.report_id} has no table {table}: it has version {record.version}. Evaluate again: "
            "this version gives it another id."
        )
    return _add_missing_columns(read_stored(reports_uri, record, record.tables[table]), table_schema(table))


def _add_missing_columns(stored: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns a table with the columns of today's schema; those that an earlier version lacks are null."""
    if stored.column_names == schema.names:
        return stored.replace_schema_metadata(schema.metadata)
    known = set(stored.column_names)
    columns = [
        stored[field.name] if field.name in known else pa.nulls(len(stored), field.type) for field in schema
    ]
    return pa.table(
        columns, schema=pa.schema([field.with_nullable(True) for field in schema], schema.metadata)
    )


def _try_record(manifest_uri: str) -> ReportRecord | InputError:
    try:
        return ReportRecord.from_manifest(publish.read_manifest(manifest_uri))
    except InputError as err:
        return err


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
