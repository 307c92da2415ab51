"""The manifest of a report: JSON in, a typed record out. A report without a manifest does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cnnlib.errors import NotFoundError, ReportError
from cnnlib.metrics.intervals import Proportion
from cnnlib.reports.schema import REPORT_VERSION
from cnnlib.reports.subject import ReportSubject
from cnnlib.storage import layout, publish
from cnnlib.storage.publish import entry

_NUMBER = (int, float, type(None))


@dataclass(frozen=True, kw_only=True)
class StoredTable:
    """One Parquet object of a report: its name below the folder of all reports, its size and its sha256 in hex."""

    name: str
    num_bytes: int
    sha256: str
    rows: int

    def to_document(self) -> dict[str, Any]:
        """Returns the object's entry in a manifest."""
        return {"name": self.name, "bytes": self.num_bytes, "sha256": self.sha256, "rows": self.rows}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> StoredTable:
        """Reads what `to_document` returned."""
        return cls(
            name=entry(document, "name", str),
            num_bytes=entry(document, "bytes", int),
            sha256=entry(document, "sha256", str),
            rows=entry(document, "rows", int),
        )


@dataclass(frozen=True, kw_only=True)
class ReportRecord:
    """What the manifest of a report states; its metrics are those of the whole split.

    Attributes:
        version: the report version of the tables: columns that a later version added are null.
        evaluated_at: in UTC.
        seconds: wall time of the evaluation.
        loss: mean cross-entropy in nats; None for an empty split.
        top_k_accuracy: fraction of rows, 0..1; None for an empty split.
        tables: by table name.
        predictions: the objects of the table `predictions`; None if they are not stored.
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

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> ReportRecord:
        """Reads a report's manifest.

        Raises:
            ReportError: it is not the manifest of a report, or a newer version of this project wrote it.
        """
        if "report_version" not in manifest:
            raise ReportError(
                f"Not the manifest of a report; it holds {', '.join(sorted(manifest)) or 'nothing'}."
            )
        version = manifest["report_version"]
        if isinstance(version, int) and version > REPORT_VERSION:
            raise ReportError(
                f"Report {manifest.get('report_id')} has version {version}, "
                f"this cnnlib reads up to {REPORT_VERSION}. Update cnnlib."
            )
        try:
            return cls._read(manifest)
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise ReportError(
                f"The manifest of report {manifest.get('report_id')} has a missing or invalid entry: "
                f"{type(err).__name__}: {err}. Delete all objects of the report, then evaluate again."
            ) from err

    @classmethod
    def _read(cls, manifest: Mapping[str, Any]) -> ReportRecord:
        predictions = manifest.get("predictions")  # version 1 did not list them
        return cls(
            report_id=entry(manifest, "report_id", str),
            version=entry(manifest, "report_version", int),
            evaluated_at=_to_time(manifest["evaluated_at"]),
            seconds=entry(manifest, "seconds", int, float),
            subject=ReportSubject.from_document(manifest["subject"]),
            rows=entry(manifest, "rows", int),
            correct=entry(manifest, "correct", int),
            accuracy=Proportion(
                *(entry(manifest, f"accuracy{end}", *_NUMBER) for end in ("", "_low", "_high"))
            ),
            loss=entry(manifest, "loss", *_NUMBER),
            top_k=entry(manifest, "top_k", int),
            top_k_accuracy=entry(manifest, "top_k_accuracy", *_NUMBER),
            tables={name: StoredTable.from_document(stored) for name, stored in manifest["objects"].items()},
            predictions=None if predictions is None else tuple(map(StoredTable.from_document, predictions)),
        )

    @property
    def age(self) -> tuple[datetime, int, str]:
        """The sort key of reports, oldest first.

        One pass over the data ends at the same time for several checkpoints, so the epoch decides among those.
        """
        return self.evaluated_at, self.subject.checkpoint_epoch or 0, self.report_id

    @property
    def scored_rows(self) -> tuple[str, str]:
        """The dataset's fingerprint and the split: reports that agree on both were scored on the same rows."""
        return self.subject.dataset_fingerprint, self.subject.split

    def to_row(self) -> dict[str, Any]:
        """Returns the record as flat columns, named as in the table `overall`."""
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


def _to_time(text: str) -> datetime:
    """Returns a time that can be compared with others: all have a time zone."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return time


def find_manifest(reports_uri: str, report_id: str) -> dict[str, Any] | None:
    """Reads the manifest of a report; None where there is no such report."""
    try:
        return publish.read_manifest(layout.report_manifest(reports_uri, report_id))
    except NotFoundError:
        return None


def read_record(reports_uri: str, report_id: str) -> ReportRecord:
    """Reads the record of a report.

    Raises:
        ReportError: there is no such report, or a newer version of this project wrote it.
    """
    manifest = find_manifest(reports_uri, report_id)
    if manifest is None:
        raise ReportError(f"No report {report_id!r} in {reports_uri}.")
    return ReportRecord.from_manifest(manifest)
