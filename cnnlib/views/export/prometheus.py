"""A folder of reports in, the newest reports as gauges in Prometheus' text format out.

Each run, model, dataset, split and test-time augmentation has one set of series: a new report continues the series of
the previous one, so their number does not grow with the number of reports. Names follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily

from cnnlib.gates.verdicts import VERDICTS, find_gates, worst
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import complete_record, list_reports
from cnnlib.storage.uri import uri_name

MAX_SERIES_CLASSES = 100
_LABELS = ("run", "model", "dataset", "split", "model_uri", "dataset_uri", "tta")

# Gauge to column and meaning. A value that is null has no series.
_OVERALL = {
    "accuracy_ratio": ("accuracy", "Fraction of the split's rows that are predicted correctly, 0 to 1."),
    "accuracy_low_ratio": ("accuracy_low", "Lower end of the accuracy's 95 % interval."),
    "accuracy_high_ratio": ("accuracy_high", "Upper end of the accuracy's 95 % interval."),
    "macro_f1_ratio": ("macro_f1", "Mean F1 of the classes, 0 to 1."),
    "loss_nats": ("loss", "Mean cross-entropy in nats."),
    "calibration_error_ratio": ("ece", "Expected calibration error of the predicted class's probability."),
    "rows": ("rows", "Rows that were scored."),
    "images_per_second": ("images_per_s", "Speed of the evaluation."),
    "checkpoint_epoch": ("checkpoint_epoch", "Epochs that the checkpoint had completed."),
}
_PER_CLASS = {
    "class_accuracy_ratio": (
        "accuracy",
        "Fraction of the class's rows that are predicted correctly (its recall).",
    ),
    "class_f1_ratio": ("f1", "F1 of the class, 0 to 1."),
    "class_rows": ("support", "Rows whose true class is the class."),
}


class _Snapshot(NamedTuple):
    """The values of one report: labels, row of `overall`, rows of `per_class`, verdict (None without gates)."""

    labels: tuple[str, ...]
    overall: Mapping[str, Any]
    classes: Sequence[Mapping[str, Any]]
    verdict: int | None


def prometheus_text(reports_uri: str, limit: int) -> str:
    """Returns the report of the latest model of each run, dataset and split as gauges named `cnnlib_report_…`.

    Args:
        reports_uri: the folder of all reports.
        limit: the largest number of reports, the newest first. Prometheus keeps every series for weeks; for the same
            reason a report with more than 100 classes has no series per class.

    Raises:
        ReportError: there are no reports, or one is damaged.
    """
    snapshots = _read_snapshots(reports_uri, _newest(list_reports(reports_uri))[:limit])
    registry = CollectorRegistry()
    registry.register(_Collector(_families(snapshots)))
    text: str = generate_latest(registry).decode()
    return text


class _Collector:
    """Gives a registry its gauges."""

    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Returns the gauges."""
        return iter(self._families)


def _newest(records: Iterable[ReportRecord]) -> list[ReportRecord]:
    """Returns the record of the latest model of each set of labels, those that were evaluated last first.

    Of a run, the latest is the one that was trained longest, whatever was evaluated last.
    """
    latest: dict[tuple[str, ...], ReportRecord] = {}
    for record in sorted(records, key=_place_in_run):
        latest[_labels(record)] = record
    return sorted(latest.values(), key=lambda record: record.age, reverse=True)


def _place_in_run(record: ReportRecord) -> tuple[float, int, tuple[Any, ...]]:
    started_at = record.subject.run_started_at
    start = 0.0 if started_at is None else datetime.fromisoformat(started_at).timestamp()
    return start, record.subject.checkpoint_epoch or 0, record.age


def _labels(record: ReportRecord) -> tuple[str, ...]:
    """Returns the values of `_LABELS`: names without their folders, empty if unknown, and where model and data are.

    An empty label is no label for Prometheus. Two datasets may have one name, and so may runs in two folders. A model
    is where its run is, or its file.
    """
    subject = record.subject
    names = subject.run or "", subject.model or "", uri_name(subject.dataset_uri), subject.split
    tta = str(subject.evaluation.get("tta", ""))
    return *names, _find_run(subject.checkpoint_uri, subject.run), subject.dataset_uri, tta


def _find_run(model_uri: str, run: str | None) -> str:
    """Returns the folder of the run that a checkpoint is below; of another model its own URI.

    >>> _find_run("s3://b/runs/a/checkpoints/step-10/model.keras", "a"), _find_run("/models/a.keras", None)
    ('s3://b/runs/a', '/models/a.keras')
    """
    before, found, _ = model_uri.rpartition(f"/{run}/")
    return f"{before}/{run}" if run and found else model_uri


def _read_snapshots(reports_uri: str, records: Sequence[ReportRecord]) -> list[_Snapshot]:
    gates = find_gates(reports_uri, {record.report_id for record in records})
    reports = [complete_record(reports_uri, record) for record in records]
    return [
        _Snapshot(
            labels=_labels(report.record),
            overall=report.overall,
            classes=report.classes if len(report.classes) <= MAX_SERIES_CLASSES else (),
            verdict=_verdict_value(gates.get(report.record.report_id)),
        )
        for report in reports
    ]


def _verdict_value(gates: Sequence[Mapping[str, Any]] | None) -> int | None:
    """Returns the worst verdict as the value of the gauge; None without gates."""
    return None if gates is None else VERDICTS.index(worst(row["verdict"] for row in gates))


def _families(snapshots: Sequence[_Snapshot]) -> Iterator[GaugeMetricFamily]:
    for name, (column, meaning) in _OVERALL.items():
        gauge = _new_gauge(name, meaning)
        for snapshot in snapshots:
            _add(gauge, snapshot.labels, snapshot.overall[column])
        yield gauge
    written = _new_gauge("timestamp_seconds", "When the evaluation ended, in seconds since 1970.")
    verdict = _new_gauge("gate_verdict", "Worst verdict of the gates: 0 pass, 1 inconclusive, 2 fail.")
    for snapshot in snapshots:
        _add(written, snapshot.labels, snapshot.overall["evaluated_at"].timestamp())
        _add(verdict, snapshot.labels, snapshot.verdict)
    yield from (written, verdict)
    for name, (column, meaning) in _PER_CLASS.items():
        gauge = _new_gauge(name, meaning, "class")
        for snapshot in snapshots:
            for row in snapshot.classes:
                _add(gauge, (*snapshot.labels, row["class_name"]), row[column])
        yield gauge


def _new_gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cnnlib_report_{name}", meaning, labels=(*_LABELS, *labels))


def _add(gauge: GaugeMetricFamily, labels: Sequence[str], value: float | None) -> None:
    if value is not None:
        gauge.add_metric(labels, value)
