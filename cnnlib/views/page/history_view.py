"""A folder of reports in, the trend of every class on every split out: what the history page draws."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cnnlib.reports.percent import format_percent
from cnnlib.reports.read import Report, ReportRecord
from cnnlib.views.page import formatting
from cnnlib.views.page.charts import LineChart, Sample, line_chart
from cnnlib.views.page.report_data import Row
from cnnlib.views.page.sections.verdict import lies_below, worst_verdict

_CLASS_WIDTH, _CLASS_HEIGHT = 190, 116
_WIDTH, _HEIGHT = 1040, 300
_NARROW_WIDTH, _NARROW_HEIGHT = 360, 220
_PIXELS_PER_DAY = 70
_ALL = "all classes"


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A class, or all of them, whose interval lies below that of the report before on the same rows."""

    name: str
    now: float
    before: float


@dataclass(frozen=True, kw_only=True)
class ReportLine:
    """A report in the table; `verdict` is empty without gates, `change` without a report before.

    Attributes:
        worse: what fell since the report before.
    """

    record: ReportRecord
    model: str
    verdict: str
    change: str
    worse: Sequence[Regression]


@dataclass(frozen=True, kw_only=True)
class Trend:
    """All reports on one split of one data set.

    Attributes:
        key: a name for links within the page.
        newest: the last report.
        overall: for a wide window.
        overall_narrow: the same for a phone; one of the two is hidden. Both None where there are no rows.
        regressions: the reports in which something fell, newest first.
        lines: of the table, newest first.
    """

    key: str
    data: str
    fingerprint: str
    newest: ReportLine
    overall: LineChart | None
    overall_narrow: LineChart | None
    classes: Sequence[LineChart]
    regressions: Sequence[ReportLine]
    lines: Sequence[ReportLine]


@dataclass(frozen=True, kw_only=True)
class HistoryView:
    """The history page: the trend with the newest report first. `total` counts reports, also those left out.

    Attributes:
        read: how many of the newest were looked at, the damaged among them.
        damaged: those of them that could not be read.
    """

    trends: Sequence[Trend]
    read: int
    damaged: Sequence[ReportRecord]
    total: int
    links: Collection[str]


def build_history_view(
    reports: Sequence[Report],
    gates: Mapping[str, Sequence[Row]],
    links: Collection[str],
    damaged: Sequence[ReportRecord],
    total: int,
) -> HistoryView:
    """Lays out the history page.

    Args:
        reports: at least one, in any order.
        gates: rows of the table `gates`, by report.
        links: ids of the reports whose pages lie beside this one.
        damaged: reports that could not be read.
        total: how many reports the folder has.
    """
    by_rows: dict[tuple[str, str], list[Report]] = defaultdict(list)
    for report in sorted(reports, key=lambda report: report.record.age):
        by_rows[report.record.scored_rows].append(report)
    ordered = sorted(by_rows.values(), key=lambda series: series[-1].record.age, reverse=True)
    trends = [_trend(f"trend-{place}", series, gates) for place, series in enumerate(ordered)]
    read = len(reports) + len(damaged)
    return HistoryView(trends=trends, read=read, damaged=damaged, total=total, links=links)


def _trend(key: str, series: Sequence[Report], gates: Mapping[str, Sequence[Row]]) -> Trend:
    newest = series[-1].record
    lines = [
        _line(report, before, worst_verdict(gates.get(report.record.report_id, ())))
        for before, report in zip([None, *series], series, strict=False)
    ]
    return Trend(
        key=key,
        data=newest.subject.data_label,
        fingerprint=newest.subject.dataset_fingerprint,
        newest=lines[-1],
        overall=_overall_chart(series, lines, _WIDTH, _HEIGHT),
        overall_narrow=_overall_chart(series, lines, _NARROW_WIDTH, _NARROW_HEIGHT),
        classes=_class_charts(series, lines),
        regressions=[line for line in reversed(lines) if line.worse],
        lines=list(reversed(lines)),
    )


def _line(report: Report, before: Report | None, verdict: str) -> ReportLine:
    record = report.record
    now, then = record.accuracy.fraction, before.record.accuracy.fraction if before else None
    return ReportLine(
        record=record,
        model=record.subject.model_label,
        verdict=verdict,
        change=formatting.points(now - then) if now is not None and then is not None else "",
        worse=_regressions(report, before) if before else (),
    )


def _regressions(report: Report, before: Report) -> list[Regression]:
    now, then = _accuracies(report), _accuracies(before)
    return [
        Regression(name=name, now=row["accuracy"], before=then[name]["accuracy"])
        for name, row in now.items()
        if name in then and lies_below(row, then[name])
    ]


def _accuracies(report: Report) -> dict[str, Row]:
    return {_ALL: report.record.to_row(), **_by_name(report)}


def _by_name(report: Report) -> dict[str, Row]:
    return {row["class_name"]: row for row in report.classes}


def _overall_chart(
    series: Sequence[Report], lines: Sequence[ReportLine], width: int, height: int
) -> LineChart | None:
    samples = [
        _sample(place, report.record.to_row(), report.record, line.verdict, _fell(line, _ALL))
        for place, (report, line) in enumerate(zip(series, lines, strict=True))
        if report.record.accuracy.fraction is not None
    ]
    if not samples:
        return None
    return line_chart(
        "All classes",
        [("accuracy", samples)],
        summary=_summary(_ALL, samples),
        x_ticks=_days(series, width // _PIXELS_PER_DAY),
        say=format_percent,
        width=width,
        height=height,
    )


def _class_charts(series: Sequence[Report], lines: Sequence[ReportLine]) -> list[LineChart]:
    """A chart per class. All span the same number of points, so that slopes compare; each at its own height."""
    by_class: dict[str, list[Sample]] = defaultdict(list)
    for place, (report, line) in enumerate(zip(series, lines, strict=True)):
        for name, row in _by_name(report).items():
            if row["accuracy"] is not None:
                by_class[name].append(_sample(place, row, report.record, "", _fell(line, name)))
    span = 1.08 * max((_height(samples) for samples in by_class.values()), default=0.1)
    return [
        line_chart(
            name,
            [("accuracy", samples)],
            summary=_summary(name, samples),
            x_ticks=(),
            y_range=_window(samples, span),
            y_ticks=3,
            say=format_percent,
            width=_CLASS_WIDTH,
            height=_CLASS_HEIGHT,
        )
        for name, samples in by_class.items()
    ]


def _fell(line: ReportLine, name: str) -> bool:
    return any(each.name == name for each in line.worse)


def _sample(place: int, row: Row, record: ReportRecord, verdict: str, fell: bool) -> Sample:
    accuracy, low, high = row["accuracy"], row["accuracy_low"], row["accuracy_high"]
    marks = [verdict] * bool(verdict) + ["worse"] * fell
    said = [
        f"{record.subject.model_label}, {formatting.short_date(record.evaluated_at)}: {format_percent(accuracy)} "
        f"({formatting.percent_range(low, high)})",
        *([f"gates {verdict}"] if verdict else []),
        *(["clearly worse than before"] if fell else []),
    ]
    return Sample(x=place, y=accuracy, low=low, high=high, label="; ".join(said), mark=" ".join(marks))


def _ends(samples: Sequence[Sample]) -> tuple[float, float]:
    lows = [sample.y if sample.low is None else sample.low for sample in samples]
    highs = [sample.y if sample.high is None else sample.high for sample in samples]
    return min(lows), max(highs)


def _height(samples: Sequence[Sample]) -> float:
    low, high = _ends(samples)
    return high - low


def _window(samples: Sequence[Sample], span: float) -> tuple[float, float]:
    """The range of that span around the samples, within 0..1 where it fits."""
    low, high = _ends(samples)
    top = min((low + high + span) / 2, max(1.0, high))
    bottom = max(top - span, 0.0)
    return bottom, bottom + span


def _days(series: Sequence[Report], limit: int) -> list[tuple[float, str]]:
    """A tick at the first report of every day, of at most so many days."""
    firsts: list[tuple[float, str]] = []
    for place, report in enumerate(series):
        text = formatting.short_date(report.record.evaluated_at)
        if not firsts or firsts[-1][1] != text:
            firsts.append((float(place), text))
    step = -(-len(firsts) // limit)
    return firsts[::step]


def _summary(name: str, samples: Sequence[Sample]) -> str:
    first, last = format_percent(samples[0].y), format_percent(samples[-1].y)
    return f"Accuracy of {name} over {formatting.plural(len(samples), 'report')}, from {first} to {last}."
