"""Report facts in, one immutable report out: the protocol that makes it appear once and whole.

A report is named after its subject, so two evaluations of the same thing write the same objects: a re-run
after a crash, or two schedulers at once. They must agree, even where hardware gives them different counts. So
the first object is a claim, an archive of all the others, and it is written with put-if-absent: whoever comes first
decides. Every later object is taken out of that claim, whoever writes it, and is written with put-if-absent as
well. A crash leaves

    nothing                               before `claims/<report_id>.zip`
    the claim                             the next writer completes it, with the objects it holds
    the claim, overall, confusion, …      the same
    the claim, …, per_class               the same; for readers of the folder per_class/ these rows are final
    … and manifests/<report_id>.json      a report

and none of these objects is ever overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from cnnlib.log import log_event
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.reports.build import build_tables
from cnnlib.reports.claim import pack_claim, unpack_claim
from cnnlib.reports.read import find_manifest
from cnnlib.reports.schema import REPORT_VERSION
from cnnlib.reports.subject import EvaluationResult, ReportSubject, StoredTable, Versions
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes

_MANIFEST = "manifest"
# per_class last: it is the folder people read without looking at manifests.
_ORDER = (*(table for table in layout.REPORT_TABLES if table != "per_class"), "per_class")
_SUMMARY = ("rows", "correct", "accuracy", "accuracy_low", "accuracy_high", "loss", "top_k", "top_k_accuracy")
_FIRST_SCORE = ("confusion", "calibration")  # these tables follow from the score alone


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """Where a report lies.

    Attributes:
        created: False if it existed already, with the numbers of the evaluation that came first.
        uris: the URI of each table by its name, and of the manifest as "manifest".
    """

    report_id: str
    created: bool
    uris: Mapping[str, str]


def write_report(
    reports_uri: str,
    subject: ReportSubject,
    score: MetricSums,
    *,
    evaluated_at: datetime,
    seconds: float,
    versions: Versions,
    rows: ScoredRows | None = None,
    slices: Mapping[str, MetricSums] | None = None,
    predictions: Sequence[StoredTable] | None = None,
    parameters: int | None = None,
    flops_per_image: int | None = None,
    activations: pa.Table | None = None,
) -> WrittenReport:
    """Publishes the report of an evaluation, unless its subject has one.

    Args:
        reports_uri: the folder of all reports.
        subject: what was evaluated, and how; it alone names the report.
        score: the sums over every row of the split.
        evaluated_at: when the evaluation ended; with a time zone.
        seconds: wall time of the evaluation.
        versions: what computed the score; see `installed_versions`.
        rows: the rows themselves, sorted by id; None where they are too many to keep.
        slices: the sums over parts of the split, by the name that the column `slice` gives them.
        predictions: what `write_predictions` returned for each part; None: they are not stored.
        parameters: numbers that the model holds; None if unknown.
        flops_per_image: floating-point operations of one prediction; None if unknown.
        activations: the table `activations` without its `report_id`; None: it has no rows.

    Raises:
        StorageError: storage failed; the same call again completes the report.
    """
    measured = EvaluationResult(
        subject=subject,
        score=score,
        rows=rows,
        slices=slices or {},
        evaluated_at=evaluated_at,
        seconds=seconds,
        versions=versions,
        predictions=None if predictions is None else tuple(predictions),
        parameters=parameters,
        flops_per_image=flops_per_image,
        activations=activations,
    )
    report_id = measured.report_id
    created = find_manifest(reports_uri, report_id) is None and _publish(reports_uri, measured)
    uris = {table: layout.report_table(reports_uri, table, report_id) for table in layout.REPORT_TABLES}
    uris[_MANIFEST] = layout.report_manifest(reports_uri, report_id)
    return WrittenReport(report_id=report_id, created=created, uris=uris)


def _publish(reports_uri: str, measured: EvaluationResult) -> bool:
    """Writes what is missing of a report, manifest last; True if this call made it visible."""
    report_id, own = measured.report_id, _build_objects(measured)
    claim_uri, claim = layout.report_claim(reports_uri, report_id), pack_claim(own)
    objects = own if files.create_bytes(claim_uri, claim) else unpack_claim(files.read_bytes(claim_uri))
    if any(objects[table] != own[table] for table in _FIRST_SCORE):
        log_event("report_kept_first_score", report_id=report_id, reason="evaluations of it differ")
    for table in _ORDER:
        files.create_bytes(layout.report_table(reports_uri, table, report_id), objects[table])
    manifest_uri = layout.report_manifest(reports_uri, report_id)
    return publish.write_manifest(manifest_uri, json.loads(objects[_MANIFEST]))


def _build_objects(result: EvaluationResult) -> dict[str, bytes]:
    """The bytes of every table and of the manifest, by name."""
    tables = build_tables(result)
    data = {name: parquet_bytes(table) for name, table in tables.items()}
    return {**data, _MANIFEST: publish.canonical_json(_manifest(result, tables, data))}


def _manifest(
    result: EvaluationResult, tables: Mapping[str, pa.Table], data: Mapping[str, bytes]
) -> dict[str, Any]:
    overall = tables["overall"].select(_SUMMARY).slice(0, 1).to_pylist()[0]
    predictions = result.predictions
    return {
        "report_version": REPORT_VERSION,
        "report_id": result.report_id,
        **result.provenance(),
        **overall,
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
