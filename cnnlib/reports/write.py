"""Report facts in, one immutable report out: the protocol that makes it appear once and whole.

A report is named after its subject, so two evaluations of the same thing write the same objects: a re-run
after a crash, or two schedulers at once. They must agree, even where hardware gives them different counts. So
the first object, `confusion`, holds *all* facts (counts as rows, the rest in its metadata), and it is written
with put-if-absent: whoever comes first decides. Every later object is a function of that first one,
whoever writes it, and is written with put-if-absent as well. A crash leaves

    nothing                               before `confusion`
    confusion                             a claim: the next writer completes it, with the facts it holds
    confusion, overall                    the same
    confusion, overall, per_class         the same; for readers of the folder per_class/ these rows are final
    … and manifests/<report_id>.json      a report

and none of these objects is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from numpy.typing import ArrayLike

from cnnlib.log import log_event
from cnnlib.metrics.confusion import ScoreSums
from cnnlib.reports.build import (
    confusion_table,
    facts_from_confusion,
    overall_row,
    overall_table,
    parquet_bytes,
    parquet_table,
    per_class_table,
    predictions_table,
)
from cnnlib.reports.facts import ReportFacts, ReportSubject, Versions
from cnnlib.reports.read import find_manifest
from cnnlib.reports.schema import REPORT_VERSION
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri

_SUMMARY = ("rows", "correct", "accuracy", "accuracy_low", "accuracy_high", "loss", "top_k", "top_k_accuracy")


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
    score: ScoreSums,
    *,
    evaluated_at: datetime,
    seconds: float,
    versions: Versions,
) -> WrittenReport:
    """Publishes the report of an evaluation, unless its subject has one.

    Args:
        reports_uri: the folder of all reports.
        subject: what was evaluated, and how; it alone names the report.
        score: the sums over every row of the split.
        evaluated_at: when the evaluation ended; with a time zone.
        seconds: wall time of the evaluation.
        versions: what computed the score; see `installed_versions`.

    Raises:
        StorageError: storage failed; the same call again completes the report.
    """
    measured = ReportFacts(
        subject=subject, score=score, evaluated_at=evaluated_at, seconds=seconds, versions=versions
    )
    report_id = measured.report_id
    created = find_manifest(reports_uri, report_id) is None and _publish(reports_uri, measured)
    uris = {table: layout.report_table(reports_uri, table, report_id) for table in layout.REPORT_TABLES}
    uris["manifest"] = layout.report_manifest(reports_uri, report_id)
    return WrittenReport(report_id=report_id, created=created, uris=uris)


def write_predictions(
    reports_uri: str,
    report_id: str,
    *,
    shard_index: int,
    ids: ArrayLike,
    labels: ArrayLike,
    predictions: ArrayLike,
    probabilities: ArrayLike,
) -> str:
    """Stores the predictions of some consecutive rows of one shard, and returns the object's URI.

    The name follows from the rows, so a retried task overwrites its own object.

    Args:
        reports_uri: the folder of all reports.
        report_id: the report they belong to, which need not exist yet.
        shard_index: index of the rows' shard in the dataset's manifest.
        ids: int64 [rows], at least one.
        labels: int32 [rows], true classes.
        predictions: int32 [rows], predicted classes.
        probabilities: float32 [rows], of the predicted classes.
    """
    table = predictions_table(ids, labels, predictions, probabilities)
    part = layout.predictions_part(shard_index, table["id"][0].as_py())
    uri = join_uri(layout.report_predictions(reports_uri, report_id), part)
    files.write_bytes(uri, parquet_bytes(table))
    return uri


def _publish(reports_uri: str, measured: ReportFacts) -> bool:
    """Writes what is missing of a report, manifest last; True if this call made it visible."""
    claim = _create_or_read(reports_uri, "confusion", measured.report_id, confusion_table(measured))
    facts = facts_from_confusion(parquet_table(claim))
    if facts.score != measured.score:
        log_event("report_kept_first_score", report_id=facts.report_id, reason="evaluations of it differ")
    stored = {"confusion": claim}
    # per_class last: it is the folder people read without looking at manifests.
    for table, content in (("overall", overall_table(facts)), ("per_class", per_class_table(facts))):
        stored[table] = _create_or_read(reports_uri, table, facts.report_id, content)
    manifest_uri = layout.report_manifest(reports_uri, facts.report_id)
    return publish.write_manifest(manifest_uri, _manifest(facts, stored))


def _create_or_read(reports_uri: str, table: str, report_id: str, content: pa.Table) -> bytes:
    """Writes a table unless its object exists, and returns the bytes that lie there now."""
    uri, data = layout.report_table(reports_uri, table, report_id), parquet_bytes(content)
    return data if files.create_bytes(uri, data) else files.read_bytes(uri)


def _manifest(facts: ReportFacts, stored: Mapping[str, bytes]) -> dict[str, Any]:
    overall, circumstances = overall_row(facts), facts.circumstances()
    return {
        "report_version": REPORT_VERSION,
        "report_id": facts.report_id,
        **{key: circumstances[key] for key in ("subject", "evaluated_at", "seconds", "versions")},
        **{key: overall[key] for key in _SUMMARY},
        "objects": {
            table: {
                "name": f"{table}/{facts.report_id}.parquet",
                "bytes": len(data),
                "sha256": publish.sha256_hex(data),
                "rows": parquet_table(data).num_rows,
            }
            for table, data in stored.items()
        },
    }
