"""The result of an evaluation in, one immutable report out, published once and whole.

A report is named after its subject, so two evaluations of the same subject write the same objects, such as one that
starts again after a crash, or those of two schedulers. They must agree, even if different hardware counts differently.
So the first object is the claim, a zip archive of all the others, written with put-if-absent: the first writer
decides. Every writer then takes every later object from the stored claim and writes it with put-if-absent too.
A crash leaves

    nothing                               before `claims/<report_id>.zip`
    the claim                             the next writer completes the report from it
    the claim, overall, confusion, …      the same
    the claim, …, per_class               the same; for readers of the folder per_class/ these rows are final
    … and manifests/<report_id>.json      a report; predictions of other attempts may lie beside its own

and no object is ever overwritten. Whoever finishes deletes the predictions that the manifest does not list.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cnnlib.errors import AccessError, ReportError
from cnnlib.log import log_event
from cnnlib.reports.build import build_tables
from cnnlib.reports.manifest import StoredTable, find_manifest, read_record
from cnnlib.reports.predictions import delete_other_predictions
from cnnlib.reports.result import EvaluationResult
from cnnlib.reports.schema import REPORT_VERSION
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes

_MANIFEST = "manifest"
# per_class last: people read that folder without looking at manifests.
_ORDER = (*(table for table in layout.REPORT_TABLES if table != "per_class"), "per_class")
_SUMMARY = ("rows", "correct", "accuracy", "accuracy_low", "accuracy_high", "loss", "top_k", "top_k_accuracy")
_COUNTED = ("confusion", "calibration")  # tables of the metric sums alone, without a time or a version
# The earliest time in a zip. It is fixed, so that equal objects give equal bytes.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_ZIP_UNIX = 3


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """Where a report is stored.

    Attributes:
        created: False if the report existed already; it keeps the numbers of the first evaluation.
        uris: the URI of each table by its name, and of the manifest as "manifest".
    """

    report_id: str
    created: bool
    uris: Mapping[str, str]


def write_report(reports_uri: str, result: EvaluationResult) -> WrittenReport:
    """Publishes the report of an evaluation, unless its subject has one.

    Args:
        reports_uri: the folder of all reports.
        result: what the evaluation measured; the report's id follows from its subject alone.

    Raises:
        StorageError: storage failed; the same call again completes the report.
    """
    report_id = result.report_id
    created = find_manifest(reports_uri, report_id) is None and _publish(reports_uri, result)
    try:
        delete_other_predictions(reports_uri, read_record(reports_uri, report_id))
    except AccessError as err:
        # The report is complete, and its readers look at the manifest.
        log_event("predictions_of_another_attempt_stay", report_id=report_id, reason=err)
    uris = {table: layout.report_table(reports_uri, table, report_id) for table in layout.REPORT_TABLES}
    uris[_MANIFEST] = layout.report_manifest(reports_uri, report_id)
    return WrittenReport(report_id=report_id, created=created, uris=uris)


def pack_claim(objects: Mapping[str, bytes]) -> bytes:
    """Packs the objects of a report, by name, into one zip archive, uncompressed: Parquet is compressed already."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as claim:
        for name, data in objects.items():
            entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
            entry.create_system = _ZIP_UNIX
            claim.writestr(entry, data)
    return archive.getvalue()


def unpack_claim(archive: bytes) -> dict[str, bytes]:
    """Returns the objects in a claim, by name.

    Raises:
        ReportError: the claim is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as claim:
            return {name: claim.read(name) for name in claim.namelist()}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as err:
        raise ReportError(
            f"The claim of a report is damaged ({err}). Delete it from the folder claims, and evaluate again."
        ) from err


def _publish(reports_uri: str, result: EvaluationResult) -> bool:
    """Writes the missing objects of a report, manifest last; returns True if this call made it visible."""
    report_id, own = result.report_id, _build_objects(result)
    claim_uri, claim = layout.report_claim(reports_uri, report_id), pack_claim(own)
    objects = own if files.create_bytes(claim_uri, claim) else unpack_claim(files.read_bytes(claim_uri))
    if any(objects[table] != own[table] for table in _COUNTED):
        log_event("report_kept_first_result", report_id=report_id, reason="evaluations of it differ")
    for table in _ORDER:
        files.create_bytes(layout.report_table(reports_uri, table, report_id), objects[table])
    manifest_uri = layout.report_manifest(reports_uri, report_id)
    return publish.write_manifest(manifest_uri, json.loads(objects[_MANIFEST]))


def _build_objects(result: EvaluationResult) -> dict[str, bytes]:
    """Returns the bytes of every table and of the manifest, by name."""
    tables = build_tables(result)
    data = {name: parquet_bytes(table) for name, table in tables.items()}
    return {**data, _MANIFEST: publish.canonical_json(_manifest(result, tables, data))}


def _manifest(
    result: EvaluationResult, tables: Mapping[str, pa.Table], data: Mapping[str, bytes]
) -> dict[str, Any]:
    summary = tables["overall"].select(_SUMMARY).slice(0, 1).to_pylist()[0]
    predictions = result.predictions
    return {
        "report_version": REPORT_VERSION,
        "report_id": result.report_id,
        **result.provenance(),
        **summary,
        "objects": {
            name: StoredTable(
                name=f"{name}/{result.report_id}.parquet",
                num_bytes=len(data[name]),
                sha256=publish.sha256_hex(data[name]),
                rows=table.num_rows,
            ).to_document()
            for name, table in tables.items()
        },
        "predictions": None if predictions is None else [part.to_document() for part in predictions],
    }
