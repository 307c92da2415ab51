"""The reports of a folder in, what the history page draws out: the trend of every class on every split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cnnlib.gates.verdicts import find_compared
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import Report
from cnnlib.views.page.charts import LineChart
from cnnlib.views.page.report_data import Row
from cnnlib.views.page.sections.trends import ReportLine, class_charts, overall_chart, report_line
from cnnlib.views.page.sections.verdict import worst_verdict

_WIDTH, _HEIGHT = 1040, 300
_NARROW_WIDTH, _NARROW_HEIGHT = 360, 220


@dataclass(frozen=True, kw_only=True)
class Trend:
    """All reports on one split of one dataset.

    Attributes:
        key: prefix of the ids of its elements on the page.
        newest: the newest report.
        overall: chart of all classes for a wide window; None where the split has no rows.
        classes: charts of the classes.
        classes_left_out: how many classes of the newest report have no chart, because there are too many.
        overall_narrow: the same for a phone; the style sheet shows one of the two.
        regressions: the reports in which a class, or all classes together, became clearly worse; newest first.
        lines: all reports, newest first.
    """

    key: str
    data: str
    fingerprint: str
    newest: ReportLine
    overall: LineChart | None
    overall_narrow: LineChart | None
    classes: Sequence[LineChart]
    classes_left_out: int
    regressions: Sequence[ReportLine]
    lines: Sequence[ReportLine]


@dataclass(frozen=True, kw_only=True)
class HistoryView:
    """What the history page shows.

    Attributes:
        trends: the one with the newest report first.
        read: number of the newest reports that were read, damaged ones included.
        damaged: those of them that could not be read.
        total: number of all reports of the folder.
        links: ids of the reports whose pages lie beside this one.
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
        gates: rows of the table `gates`, by report id.
        links: ids of the reports whose pages lie beside this one.
        damaged: reports that could not be read.
        total: number of all reports of the folder.
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
    by_id = {report.record.report_id: report for report in series}
    records = [report.record for report in series]
    lines = []
    for report in series:
        rows = gates.get(report.record.report_id, ())
        compared = find_compared(report.record, records, rows)
        previous = None if compared is None else by_id[compared.report_id]
        lines.append(report_line(report, previous, worst_verdict(rows)))
    charts = class_charts(series, lines)
    known = sum(row["accuracy"] is not None for row in series[-1].classes)
    return Trend(
        key=key,
        data=newest.subject.data_label,
        fingerprint=newest.subject.dataset_fingerprint,
        newest=lines[-1],
        overall=overall_chart(series, lines, _WIDTH, _HEIGHT),
        overall_narrow=overall_chart(series, lines, _NARROW_WIDTH, _NARROW_HEIGHT),
        classes=charts,
        classes_left_out=max(0, known - len(charts)),
        regressions=[line for line in reversed(lines) if line.regressions],
        lines=list(reversed(lines)),
    )
