"""The result of one evaluation: everything that its report states, before it is a table.

Every byte of a report's files is a pure function of an `EvaluationResult`.
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
from cnnlib.reports.manifest import StoredTable
from cnnlib.reports.subject import ReportSubject, report_id


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Versions of the software that computed the numbers; None where a library is not installed."""

    python: str
    cnnlib: str | None
    ray: str | None
    tensorflow: str | None
    keras: str | None
    numpy: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationResult:
    """What an evaluation measured, of which subject, when and with which versions.

    Attributes:
        sums: the metric sums over every row of the split.
        rows: the scored rows, sorted by id; None where they are too many to keep.
        slices: the metric sums of each slice, by the name that the column `slice` gives it.
        evaluated_at: when the evaluation ended; any time zone, stored as UTC.
        seconds: wall time of the evaluation.
        predictions: the objects that hold the predictions; None if they are not stored.
        parameters: number of the model's parameters, trained or not; None if unknown.
        flops_per_image: floating-point operations of one prediction; None if unknown.
        pixel_range: the range of the pixels that the model was given; None without rows.
        outputs: what the model's outputs were taken for, probabilities or logits; None without rows.
        activations: the table `activations` without its `report_id`; None for no rows.
        has_probabilities: False if only the predicted classes are known: the sums count 1 for these, and every metric
            that needs probabilities is null in the tables.
    """

    subject: ReportSubject
    sums: MetricSums
    rows: ScoredRows | None = None
    slices: Mapping[str, MetricSums] = field(default_factory=dict)
    evaluated_at: datetime
    seconds: float
    versions: Versions
    predictions: tuple[StoredTable, ...] | None = None
    parameters: int | None = None
    flops_per_image: int | None = None
    pixel_range: str | None = None
    outputs: str | None = None
    activations: pa.Table | None = None
    has_probabilities: bool = True

    def __post_init__(self) -> None:
        if self.evaluated_at.tzinfo is None:
            raise ValueError(f"evaluated_at needs a time zone. Received {self.evaluated_at.isoformat()}.")
        num_names = len(self.subject.class_names)
        for sums in (self.sums, *self.slices.values()):
            if sums.num_classes != num_names:
                raise ValueError(
                    f"Every class needs a name. Received {num_names} names, {sums.num_classes} classes."
                )

    @property
    def report_id(self) -> str:
        """The id of the report."""
        return report_id(self.subject)

    def provenance(self) -> dict[str, Any]:
        """Returns what was evaluated, when and with which versions, as JSON values."""
        return {
            "subject": self.subject.to_document(),
            "evaluated_at": self.evaluated_at.astimezone(UTC).isoformat(),
            "seconds": self.seconds,
            "versions": dataclasses.asdict(self.versions),
        }


def installed_versions() -> Versions:
    """Reads the versions of this environment from package metadata, without importing a package."""
    libraries = ("cnnlib", "ray", "tensorflow", "keras", "numpy")
    return Versions(python=platform.python_version(), **{name: _find_version(name) for name in libraries})


def _find_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
