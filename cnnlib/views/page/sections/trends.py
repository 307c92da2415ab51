"""Reports on the same rows in, charts of accuracy over the reports out: all classes together, and each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.percent import format_percent
from cnnlib.reports.read import Report
from cnnlib.views.page import formatting
from cnnlib.views.page.charts import LineChart, Sample, line_chart
from cnnlib.views.page.sections.verdict import lies_below

ALL_CLASSES = "all classes"
MAX_CHARTS = 60
"""Of more classes, only those with the lowest accuracy in the newest report have a chart."""
MAX_POINTS = 6000
"""The charts of the classes of a dataset have at most so many points together, about 2 MB, but `MIN_CHARTS` charts."""
MIN_CHARTS = 10
MAX_NAMES = 20
"""Of more classes that became worse in one report, only the first ones are named."""

_CLASS_WIDTH, _CLASS_HEIGHT = 190, 116
_PIXELS_PER_DAY = 70


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A class, or all classes, whose interval lies below that of the previous report on the same rows."""

    name: str
    now: float
    before: float


@dataclass(frozen=True, kw_only=True)
class ReportLine:
    """A report in the table of reports.

    Attributes:
        verdict: worst verdict of its gates; empty without gates.
        change: points since the previous report, with a sign; empty without one.
        regressions: the classes, and all classes together, that are clearly worse than in the previous report.
    """

    record: ReportRecord
    model: str
    verdict: str
    change: str
    regressions: Sequence[Regression]

    @property
    def regressed(self) -> str:
        """The names of these classes, at most `MAX_NAMES`, and how many more there are."""
        names = ", ".join(each.name for each in self.regressions[:MAX_NAMES])
        more = len(self.regressions) - MAX_NAMES
        return f"{names} and {more:,} more" if more > 0 else names

    def has_regression(self, name: str) -> bool:
        """Returns whether this class, or `ALL_CLASSES`, is clearly worse."""
        return any(each.name == name for each in self.regressions)


def report_line(report: Report, previous: Report | None, verdict: str) -> ReportLine:
    """Compares a report with the previous one on the same rows, if there is one."""
    record = report.record
    now, before = record.accuracy.fraction, previous.record.accuracy.fraction if previous else None
    return ReportLine(
        record=record,
        model=record.subject.model_label,
        verdict=verdict,
        change=formatting.points(now - before) if now is not None and before is not None else "",
        regressions=_regressions(report, previous) if previous else (),
    )


def overall_chart(
    series: Sequence[Report], lines: Sequence[ReportLine], width: int, height: int
) -> LineChart | None:
    """Draws the accuracy of all classes over the reports, oldest first; None where the split has no rows."""
    samples = [
        _sample(place, report.record.to_row(), report.record, line.verdict, line.has_regression(ALL_CLASSES))
        for place, (report, line) in enumerate(zip(series, lines, strict=True))
        if report.record.accuracy.fraction is not None
    ]
    if not samples:
        return None
    return line_chart(
        "All classes",
        [("accuracy", samples)],
        summary=_summary(ALL_CLASSES, samples),
        x_ticks=_day_ticks(series, width // _PIXELS_PER_DAY),
        value_format=format_percent,
        width=width,
        height=height,
    )


def class_charts(series: Sequence[Report], lines: Sequence[ReportLine]) -> list[LineChart]:
    """Draws a chart per class, of many classes those with the lowest accuracy in the newest report.

    All y axes span the same number of points, so that slopes can be compared.
    """
    by_class: dict[str, list[Sample]] = defaultdict(list)
    shown = _classes_to_show(series)
    for place, (report, line) in enumerate(zip(series, lines, strict=True)):
        for name, row in _classes_by_name(report).items():
            if row["accuracy"] is not None and name in shown:
                by_class[name].append(_sample(place, row, report.record, "", line.has_regression(name)))
    span = 1.08 * max((_height(samples) for samples in by_class.values()), default=0.1)
    return [
        line_chart(
            name,
            [("accuracy", samples)],
            summary=_summary(name, samples),
            x_ticks=(),
            y_range=_y_range(samples, span),
            y_ticks=3,
            value_format=format_percent,
            width=_CLASS_WIDTH,
            height=_CLASS_HEIGHT,
        )
        for name, samples in by_class.items()
    ]


def _classes_to_show(series: Sequence[Report]) -> set[str]:
    limit = min(MAX_CHARTS, max(MIN_CHARTS, MAX_POINTS // len(series)))
    newest = _classes_by_name(series[-1])
    every = dict.fromkeys(name for report in series for name in _classes_by_name(report))
    if len(every) <= limit:
        return set(every)
    ranked = sorted(
        (row["accuracy"], place, name)
        for place, (name, row) in enumerate(newest.items())
        if row["accuracy"] is not None
    )
    return {name for _, _, name in ranked[:limit]}


def _regressions(report: Report, previous: Report) -> list[Regression]:
    now, before = _accuracy_rows(report), _accuracy_rows(previous)
    return [
        Regression(name=name, now=row["accuracy"], before=before[name]["accuracy"])
        for name, row in now.items()
        if name in before and lies_below(row, before[name])
    ]


def _accuracy_rows(report: Report) -> dict[str, Mapping[str, Any]]:
    return {ALL_CLASSES: report.record.to_row(), **_classes_by_name(report)}


def _classes_by_name(report: Report) -> dict[str, Mapping[str, Any]]:
    return {row["class_name"]: row for row in report.classes}


def _sample(
    place: int, row: Mapping[str, Any], record: ReportRecord, verdict: str, is_regression: bool
) -> Sample:
    accuracy, low, high = row["accuracy"], row["accuracy_low"], row["accuracy_high"]
    marks = [verdict] * bool(verdict) + ["worse"] * is_regression
    parts = [
        f"{record.subject.model_label}, {formatting.short_date(record.evaluated_at)}: {format_percent(accuracy)} "
        f"({formatting.percent_range(low, high)})",
        *([f"gates {verdict}"] if verdict else []),
        *(["clearly worse than the previous report"] if is_regression else []),
    ]
    return Sample(x=place, y=accuracy, low=low, high=high, label="; ".join(parts), mark=" ".join(marks))


def _ends(samples: Sequence[Sample]) -> tuple[float, float]:
    lows = [sample.y if sample.low is None else sample.low for sample in samples]
    highs = [sample.y if sample.high is None else sample.high for sample in samples]
    return min(lows), max(highs)


def _height(samples: Sequence[Sample]) -> float:
    low, high = _ends(samples)
    return high - low


def _y_range(samples: Sequence[Sample], span: float) -> tuple[float, float]:
    """Returns a range of that span around the samples, within 0..1 where it fits."""
    low, high = _ends(samples)
    top = min((low + high + span) / 2, max(1.0, high))
    bottom = max(top - span, 0.0)
    return bottom, bottom + span


def _day_ticks(series: Sequence[Report], limit: int) -> list[tuple[float, str]]:
    """Returns a tick at the first report of each day, for at most `limit` days."""
    firsts: list[tuple[float, str]] = []
    for place, report in enumerate(series):
        text = formatting.short_date(report.record.evaluated_at)
        if not firsts or firsts[-1][1] != text:
            firsts.append((float(place), text))
    step = -(-len(firsts) // limit)
    return firsts[::step]


def _summary(name: str, samples: Sequence[Sample]) -> str:
    first, last = samples[0], samples[-1]
    if len(samples) == 1:
        interval = formatting.percent_range(first.low, first.high)
        return f"Accuracy of {name} in 1 report: {format_percent(first.y)}, 95% interval {interval}."
    ends = f"from {format_percent(first.y)} to {format_percent(last.y)}"
    return f"Accuracy of {name} over {formatting.plural(len(samples), 'report')}, {ends}."
