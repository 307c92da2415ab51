"""What `jobs.report` can show: a folder of reports in, renderables for a terminal and JSON values out.

Each view imports what only it needs: a list appears at once, tests of significance load SciPy, a page Jinja.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType

from cnnlib.errors import ConfigError
from cnnlib.reports.read import Report, list_reports, read_report, resolve
from cnnlib.storage import files
from cnnlib.storage.uri import normalize_uri
from cnnlib.views.terminal.tables import render_list, render_report


@dataclass(frozen=True, kw_only=True)
class View:
    """What is printed for a person, and the same as JSON values.

    Attributes:
        text: for a program: printed to the character, whatever the terminal's width.
    """

    renderables: Sequence[RenderableType]
    result: dict[str, Any]
    text: str = ""


def view_reports(reports_uri: str, names: Sequence[str], limit: int) -> View:
    """A list of the newest where no report is named, one report, two compared, more ranked.

    Raises:
        ConfigError: a report is named twice.
        ReportError: there is none of a name.
    """
    ids = list(dict.fromkeys(resolve(reports_uri, name) for name in names))
    if len(ids) < len(names):
        raise ConfigError(f"Expected each report once. Received {' '.join(names)}: {len(ids)} different.")
    if not ids:
        records = list_reports(reports_uri)[:limit]
        return View(
            renderables=[render_list(records)], result={"reports": [record.to_row() for record in records]}
        )
    reports = [read_report(reports_uri, report_id) for report_id in ids]
    if len(reports) > 1:
        return _view_together(reports_uri, reports)
    (only,) = reports
    return View(
        renderables=[render_report(only)],
        result={"report": only.overall, "classes": only.classes, "slices": only.slices},
    )


def view_experiments(reports_uri: str, plot: str | None) -> View:
    """What each model reaches and costs, and how its costs grow; as a picture too where `plot` says."""
    from cnnlib.models.growth import list_growth
    from cnnlib.views.experiments.experiments import growth_to_row, list_experiments
    from cnnlib.views.terminal.experiments import render_experiments

    experiments, growths = list_experiments(reports_uri), list_growth()
    if plot is not None:
        from cnnlib.views.experiments.plots import experiments_png

        files.write_bytes(normalize_uri(plot), experiments_png(experiments, growths))
    result = {
        "experiments": [experiment.to_row() for experiment in experiments],
        "growth": list(map(growth_to_row, growths)),
        "plot": plot,
    }
    return View(renderables=[render_experiments(experiments, growths)], result=result)


def view_gauges(reports_uri: str, output: str, limit: int) -> View:
    """The newest reports as gauges for Prometheus, written to a file, or (`-`) printed."""
    from cnnlib.views.export.prometheus import prometheus_text

    text = prometheus_text(reports_uri, limit)
    if output != "-":
        files.write_bytes(normalize_uri(output), text.encode())
    return View(
        renderables=[], text=text if output == "-" else "", result={"prometheus": output, "text": text}
    )


def view_page(reports_uri: str, name: str | None, output: str) -> View:
    """The page of a report, or without a name of all, written where `output` says."""
    from cnnlib.views.page.publish import draw_page

    uri = normalize_uri(output)
    page = draw_page(reports_uri, uri, resolve(reports_uri, name) if name else None)
    files.write_bytes(uri, page.encode())
    return View(renderables=[], text=f"{uri}\n", result={"page": uri})


def _view_together(reports_uri: str, reports: Sequence[Report]) -> View:
    from cnnlib.reports.comparison import compare_reports
    from cnnlib.reports.ranking import rank_reports
    from cnnlib.views.terminal.comparison import render_comparison, render_ranking

    if len(reports) > 2:
        ranking = rank_reports(reports_uri, reports)
        return View(renderables=[render_ranking(ranking)], result=ranking.to_row())
    a, b = reports
    comparison = compare_reports(reports_uri, a, b)
    return View(
        renderables=[render_comparison(a.record, b.record, comparison)],
        result={"a": a.record.to_row(), "b": b.record.to_row(), **comparison.to_row()},
    )
