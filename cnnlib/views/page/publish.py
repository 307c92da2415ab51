"""Draws the pages of a folder of reports: as text, or as objects in its folder `pages` that link to each other."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from cnnlib.errors import CnnlibError
from cnnlib.gates.verdicts import find_gates
from cnnlib.log import log_event, log_text
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import Report, complete_record, list_reports
from cnnlib.storage import files, layout
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import normalize_uri, uri_name
from cnnlib.views.page.history_view import build_history_view
from cnnlib.views.page.render import render_history_page, render_report_page
from cnnlib.views.page.report_data import load_report_data
from cnnlib.views.page.report_view import build_report_view

_MAX_DRAWINGS = 5  # of the history page, while other jobs write reports
MAX_HISTORY = 300
"""The history page shows at most this many reports, the newest."""
MAX_HISTORY_ROWS = 100_000
"""It reads this many rows of their tables `per_class`, about 400 MB, but at least two reports."""
INDEX = "index"


def draw_page(
    reports_uri: str,
    page_uri: str,
    report_id: str | None = None,
) -> str:
    """Returns the page of a report, or of all reports, as HTML.

    Args:
        reports_uri: the folder of all reports.
        page_uri: where the caller writes the page. In the folder `pages` of the reports it links to the pages there;
            elsewhere it has no links.
        report_id: all 16 digits; None for all reports.

    Raises:
        ReportError: there is no such report, or it is damaged.
    """
    beside = _folder(page_uri) == _folder(layout.history_page(reports_uri))
    links = _find_pages(reports_uri) if beside else frozenset()
    records = list_reports(reports_uri)
    if report_id is None:
        return _draw_history(reports_uri, records, links)
    return _draw_report(reports_uri, report_id, records, links)


def publish_pages(reports_uri: str, report_ids: Collection[str], changed: Collection[str]) -> list[str]:
    """Writes pages of reports and the history page into the folder `pages`; returns the URIs of the written pages.

    An error while drawing a page is logged and affects neither the other pages nor the caller.

    Args:
        reports_uri: the folder of all reports.
        report_ids: the reports to draw a page for; an existing page is kept.
        changed: those of them whose page is drawn again, because the report or its gates are new.
    """
    try:
        records, existing = list_reports(reports_uri), _find_pages(reports_uri)
    except CnnlibError as err:
        log_event("pages_not_drawn", reports=reports_uri, reason=str(err))
        return []
    wanted = [report_id for report_id in report_ids if report_id in changed or report_id not in existing]
    links = existing | {*wanted, INDEX}
    written = [_try_report(reports_uri, report_id, records, links) for report_id in wanted]
    return [uri for uri in (*written, _try_history(reports_uri)) if uri]


def _try_report(
    reports_uri: str, report_id: str, records: Sequence[ReportRecord], links: frozenset[str]
) -> str | None:
    uri = layout.report_page(reports_uri, report_id)
    with _failure_is_logged(uri):
        files.write_bytes(uri, _draw_report(reports_uri, report_id, records, links).encode())
        return uri
    return None


def _try_history(reports_uri: str) -> str | None:
    """Draws the history page until no other job has written a report or a page while it was drawn.

    The page of a job that has listed the reports earlier and writes later would lack those of others.
    """
    uri = layout.history_page(reports_uri)
    with _failure_is_logged(uri):
        shown = None
        for _ in range(_MAX_DRAWINGS):
            records, links = list_reports(reports_uri), _find_pages(reports_uri) | {INDEX}
            found = {record.report_id for record in records} | links
            if found == shown:
                break
            files.write_bytes(uri, _draw_history(reports_uri, records, links).encode())
            shown = found
        return uri
    return None


@contextmanager
def _failure_is_logged(page_uri: str) -> Iterator[None]:
    try:
        yield
    # Broad, also for bugs: a page can be drawn again, but the exit code of the gates must not be lost to it.
    except Exception as err:
        log_event("page_not_drawn", page=page_uri, reason=f"{type(err).__name__}: {err}")
        if not isinstance(err, CnnlibError):
            log_text(traceback.format_exc())


def _draw_report(
    reports_uri: str,
    report_id: str,
    records: Sequence[ReportRecord],
    links: frozenset[str],
) -> str:
    return render_report_page(build_report_view(load_report_data(reports_uri, report_id, records), links))


def _draw_history(reports_uri: str, records: Sequence[ReportRecord], links: frozenset[str]) -> str:
    newest = _newest(records)
    found = map_threads(lambda record: _read_or_log(reports_uri, record), newest)
    reports = [each for each in found if isinstance(each, Report)]
    errors = [each for each in found if isinstance(each, CnnlibError)]
    if not reports:
        raise errors[0]
    damaged = [record for record, each in zip(newest, found, strict=True) if isinstance(each, CnnlibError)]
    gates = find_gates(reports_uri, {record.report_id for record in newest})
    return render_history_page(build_history_view(reports, gates, links, damaged, total=len(records)))


def _newest(records: Sequence[ReportRecord]) -> Sequence[ReportRecord]:
    """Returns the newest reports that fit into memory together."""
    newest = records[:MAX_HISTORY]
    # A damaged report may lack the table.
    rows = (record.tables["per_class"].rows if "per_class" in record.tables else 0 for record in newest)
    return newest[: max(2, sum(total <= MAX_HISTORY_ROWS for total in itertools.accumulate(rows)))]


def _read_or_log(reports_uri: str, record: ReportRecord) -> Report | CnnlibError:
    """Returns the report; if it is damaged, logs and returns the error: the history shows the other reports."""
    try:
        return complete_record(reports_uri, record)
    except CnnlibError as err:
        log_event("report_left_out", report=record.report_id, reason=str(err))
        return err


def _find_pages(reports_uri: str) -> frozenset[str]:
    """Returns the ids of the reports that have a page, and `INDEX` for the history page."""
    pages = files.list_objects(_folder(layout.history_page(reports_uri)))
    return frozenset(uri_name(page.uri).removesuffix(".html") for page in pages)


def _folder(uri: str) -> str:
    return normalize_uri(uri).rpartition("/")[0]
