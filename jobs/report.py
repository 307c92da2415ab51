"""Shows reports: a list, one with its classes, two compared, more ranked; or draws the page of one, or of all.

Loads neither TensorFlow nor Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from rich.text import Text
from tyro.conf import Positional, arg

from cnnlib.errors import ConfigError
from cnnlib.reports.read import Report, list_reports, read_report, resolve
from cnnlib.reports.tables import render_list, render_report
from cnnlib.storage import files
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, parse_args, run_job, show


@dataclass(frozen=True, kw_only=True)
class Args:
    """Where the reports lie and which to show."""

    reports: Annotated[Positional[str], arg(metavar="REPORTS_URI")]
    """The folder that jobs.evaluate wrote to: a path or s3://bucket/prefix."""
    ids: Annotated[Positional[tuple[str, ...]], arg(metavar="[ID ...]", help_behavior_hint="")] = ()
    """One shows that report, two compare them, more rank them, none lists the newest. An id may be shortened while
    unique; latest and previous are names."""
    limit: int = 20
    """How many reports to list."""
    html: str | None = None
    """Write a page to this file or s3:// object: of the report with the id, or, without an id, of all reports."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ConfigError(f"limit must be at least 1. Received {self.limit}.")
        if self.html is not None and len(self.ids) > 1:
            raise ConfigError(f"--html draws one report, or without an id all. Received {len(self.ids)} ids.")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, shows what it asks for, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.report", description=__doc__)
    return run_job(lambda: _show_reports(args), json=args.json)


def _show_reports(args: Args) -> dict[str, Any]:
    if args.html is not None:
        return _write_page(args.reports, args.ids, normalize_uri(args.html))
    ids = list(dict.fromkeys(resolve(args.reports, name) for name in args.ids))
    if len(ids) < len(args.ids):
        raise ConfigError(f"Expected each report once. Received {' '.join(args.ids)}: {len(ids)} different.")
    reports = [read_report(args.reports, report_id) for report_id in ids]
    if not reports:
        records = list_reports(args.reports)[: args.limit]
        show(render_list(records))
        return {"reports": [record.to_row() for record in records]}
    if len(reports) == 1:
        show(render_report(reports[0]))
        only = reports[0]
        return {"report": only.overall, "classes": only.classes, "slices": only.slices}
    return _show_together(args.reports, reports)


def _show_together(reports_uri: str, reports: Sequence[Report]) -> dict[str, Any]:
    # Their tests load SciPy, half a second that a list does without.
    from cnnlib.reports.compare import compare_reports
    from cnnlib.reports.comparison_tables import render_comparison, render_ranking
    from cnnlib.reports.ranking import rank_reports

    if len(reports) > 2:
        ranking = rank_reports(reports_uri, reports)
        show(render_ranking(ranking))
        return ranking.to_row()
    a, b = reports
    comparison = compare_reports(reports_uri, a, b)
    show(render_comparison(a.record, b.record, comparison))
    return {"a": a.record.to_row(), "b": b.record.to_row(), **comparison.to_row()}


def _write_page(reports_uri: str, ids: Sequence[str], uri: str) -> dict[str, Any]:
    from cnnlib.reports.page.publish import draw_page  # loads Pillow and Jinja: a table can do without

    files.write_bytes(
        uri, draw_page(reports_uri, uri, resolve(reports_uri, ids[0]) if ids else None).encode()
    )
    show(Text(uri, no_wrap=True, overflow="ignore"))
    return {"page": uri}


if __name__ == "__main__":
    exit_with(main())
