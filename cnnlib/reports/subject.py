"""What a report states, before it is a table: its subject, its score, when and with what it was measured.

Everything in a report's files is a pure function of a `EvaluationResult`, and its name one of the subject alone.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import pyarrow as pa

from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.reports.schema import REPORT_VERSION
from cnnlib.storage import publish
from cnnlib.storage.uri import uri_name

_ID_DIGITS = 16
SHORT_ID_DIGITS = 8
"""Digits of a report id that people are shown where space is short."""


@dataclass(frozen=True, kw_only=True)
class ReportSubject:
    """One checkpoint, one split of one dataset, and one way to evaluate.

    Attributes:
        checkpoint_digest: sha256 of the model file, in hex.
        dataset_fingerprint: the fingerprint in the dataset's manifest.
        split: name of the split.
        evaluation: every setting that changes a number (pixel range, top k, outputs, …), as JSON values. What
            changes only the speed, such as the number of actors, stays out: it would make a second report.
        class_names: name of every class, in the order of the labels.
        checkpoint_uri: where the model file was found.
        dataset_uri: where the dataset was found.
        run: name of the training run; None for a model of another origin.
        model: registered name of the model, or its file's name.
        checkpoint_step: training steps it had seen; None if unknown.
        checkpoint_epoch: epochs it had completed; None if unknown.
    """

    checkpoint_digest: str
    dataset_fingerprint: str
    split: str
    evaluation: Mapping[str, str | int | float | bool | None]
    class_names: tuple[str, ...]
    checkpoint_uri: str
    dataset_uri: str
    run: str | None = None
    model: str | None = None
    checkpoint_step: int | None = None
    checkpoint_epoch: int | None = None

    @property
    def model_label(self) -> str:
        """What was evaluated, as `--checkpoint` names it: `demo@2`, or the name of a file."""
        if self.run is None:
            return self.model or uri_name(self.checkpoint_uri)
        return self.run if self.checkpoint_epoch is None else f"{self.run}@{self.checkpoint_epoch}"

    @property
    def data_label(self) -> str:
        """What it was evaluated on, the dataset's folder and the split: `fashion-mnist/test`."""
        return f"{uri_name(self.dataset_uri)}/{self.split}"

    def to_columns(self) -> dict[str, str | int | None]:
        """What every row of `overall` and `per_class` says about the subject, as column -> value."""
        return {
            "run": self.run,
            "model": self.model,
            "checkpoint_uri": self.checkpoint_uri,
            "checkpoint_step": self.checkpoint_step,
            "checkpoint_epoch": self.checkpoint_epoch,
            "checkpoint_digest": self.checkpoint_digest,
            "dataset_uri": self.dataset_uri,
            "dataset_fingerprint": self.dataset_fingerprint,
            "split": self.split,
        }

    def to_document(self) -> dict[str, Any]:
        """The subject as JSON values."""
        return dataclasses.asdict(self) | {"class_names": list(self.class_names)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ReportSubject:
        """The subject out of what `to_document` gave."""
        return cls(**{**document, "class_names": tuple(document["class_names"])})


@dataclass(frozen=True, kw_only=True)
class Versions:
    """What computed the numbers; None where a library is not installed."""

    python: str
    cnnlib: str | None
    ray: str | None
    tensorflow: str | None
    keras: str | None
    numpy: str | None


@dataclass(frozen=True, kw_only=True)
class StoredTable:
    """One object of a report: its name below the reports' folder, size and sha256 in hex."""

    name: str
    num_bytes: int
    sha256: str
    rows: int

    def to_document(self) -> dict[str, Any]:
        """The object as a manifest tells of it."""
        return {"name": self.name, "bytes": self.num_bytes, "sha256": self.sha256, "rows": self.rows}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> StoredTable:
        """The object out of what `to_document` gave."""
        return cls(
            name=document["name"],
            num_bytes=document["bytes"],
            sha256=document["sha256"],
            rows=document["rows"],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationResult:
    """A subject's score, and the circumstances of measuring it.

    Attributes:
        score: the sums over every row of the split.
        rows: the rows themselves, sorted by id; None where they are too many to keep.
        slices: the sums over parts of the split, by the name that the column `slice` gives them.
        evaluated_at: when the evaluation ended; any time zone, stored as UTC.
        seconds: wall time of the evaluation.
        predictions: the objects that hold the predictions; None: they are not stored.
        parameters: numbers that the model holds; None if unknown.
        flops_per_image: floating-point operations of one prediction; None if unknown.
        activations: the table `activations` without its `report_id`; None: it has no rows.
    """

    subject: ReportSubject
    score: MetricSums
    rows: ScoredRows | None = None
    slices: Mapping[str, MetricSums] = field(default_factory=dict)
    evaluated_at: datetime
    seconds: float
    versions: Versions
    predictions: tuple[StoredTable, ...] | None = None
    parameters: int | None = None
    flops_per_image: int | None = None
    activations: pa.Table | None = None

    def __post_init__(self) -> None:
        if self.evaluated_at.tzinfo is None:
            raise ValueError(f"evaluated_at needs a time zone. Received {self.evaluated_at.isoformat()}.")
        named = len(self.subject.class_names)
        for score in (self.score, *self.slices.values()):
            if score.num_classes != named:
                raise ValueError(
                    f"Every class needs a name. Received {named} names, {score.num_classes} classes."
                )

    @property
    def report_id(self) -> str:
        """The report's name."""
        return report_id(self.subject)

    def provenance(self) -> dict[str, Any]:
        """What was evaluated, when and with what, as JSON values."""
        return {
            "subject": self.subject.to_document(),
            "evaluated_at": self.evaluated_at.astimezone(UTC).isoformat(),
            "seconds": self.seconds,
            "versions": dataclasses.asdict(self.versions),
        }


def report_id(subject: ReportSubject) -> str:
    """The name of the report of a subject: 16 hex digits, the same wherever and whenever it is evaluated.

    URIs and run names are left out, so that a copied checkpoint or dataset needs no second evaluation.
    """
    identity = {
        "checkpoint_digest": subject.checkpoint_digest,
        "dataset_fingerprint": subject.dataset_fingerprint,
        "split": subject.split,
        "evaluation": dict(subject.evaluation),
        "report_version": REPORT_VERSION,
    }
    return publish.sha256_hex(publish.canonical_json(identity))[:_ID_DIGITS]


def installed_versions() -> Versions:
    """The versions in this environment, read from package metadata: nothing is imported."""
    libraries = ("cnnlib", "ray", "tensorflow", "keras", "numpy")
    return Versions(python=platform.python_version(), **{name: _find_version(name) for name in libraries})


def _find_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
