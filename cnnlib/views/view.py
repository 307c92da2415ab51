"""What `jobs.report` and lists of the other jobs show: renderables for a terminal and JSON values out.

Each view imports its own dependencies: tests of significance load SciPy, a page loads Jinja, and a list starts at once.
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
    """One result in two forms: for a person and as JSON values.

    Attributes:
        renderables: printed to a terminal, each followed by an empty line.
        result: the same as JSON values.
        text: printed unchanged, without regard to the terminal's width; for other programs.
    """

    renderables: Sequence[RenderableType]
    result: dict[str, Any]
    text: str = ""


def view_reports(reports_uri: str, names: Sequence[str], limit: int) -> View:
    """Lists the newest reports if none is named, shows one report, compares two, or ranks more.

    Raises:
        ConfigError: a report is named twice.
        ReportError: a name matches no report.
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
        return _view_several(reports_uri, reports)
    (report,) = reports
    return View(
        renderables=[render_report(report)],
        result={"report": report.overall, "classes": report.classes, "slices": report.slices},
    )


def view_experiments(reports_uri: str, plot: str | None) -> View:
    """Shows the accuracy and cost of each model, and how the cost grows with the image.

    Args:
        plot: where to write the same as a PNG; None: nowhere.
    """
    from cnnlib.models.cost_table import load_cost_table
    from cnnlib.views.experiments.experiments import list_experiments
    from cnnlib.views.terminal.experiments import render_experiments

    experiments, costs = list_experiments(reports_uri), load_cost_table()
    if plot is not None:
        from cnnlib.views.experiments.plots import experiments_png

        files.write_bytes(normalize_uri(plot), experiments_png(experiments, costs))
    result = {
        "experiments": [experiment.to_row() for experiment in experiments],
        "growth": [cost.to_row() for cost in costs],
        "plot": plot,
    }
    return View(renderables=[render_experiments(experiments, costs)], result=result)


def view_seeds(reports_uri: str) -> View:
    """Shows the median accuracy of runs that differ in their seed, and its spread."""
    from cnnlib.views.experiments.seeds import list_seed_groups
    from cnnlib.views.terminal.seeds import render_seeds

    groups = list_seed_groups(reports_uri)
    return View(renderables=[render_seeds(groups)], result={"seeds": [group.to_row() for group in groups]})


def view_ladder(reports_uri: str, ladder_uri: str, plot: str | None) -> View:
    """Shows what the recipes of a ladder reach and cost, as Markdown.

    Args:
        ladder_uri: the ladder's file.
        plot: where to write a chart of it as a PNG; None: nowhere.

    Raises:
        ConfigError: the file is no ladder, or the reports of a rung do not belong together.
        ReportError: there are no reports, or one is damaged.
    """
    from cnnlib.views.ladder.definition import load_ladder
    from cnnlib.views.ladder.markdown import ladder_markdown
    from cnnlib.views.ladder.rows import list_rows

    ladder = load_ladder(ladder_uri)
    rows = list_rows(reports_uri, ladder)
    if plot is not None:
        from cnnlib.views.ladder.picture import ladder_png

        files.write_bytes(normalize_uri(plot), ladder_png(ladder, rows))
    return View(
        renderables=[],
        text=ladder_markdown(ladder, rows),
        result={"ladder": [row.to_row() for row in rows], "plot": plot},
    )


def view_models() -> View:
    """Lists the registered models: what each costs, its options with their defaults, and what it has reached."""
    from cnnlib.models.zoo.entries import ZOO
    from cnnlib.views.terminal.models import render_models

    return View(
        renderables=[render_models(ZOO)],
        result={"models": [{"model": name, **model.to_row()} for name, model in ZOO.items()]},
    )


def view_gauges(reports_uri: str, output: str, limit: int) -> View:
    """Writes the newest reports as gauges for Prometheus to a file; prints them if `output` is `-`."""
    from cnnlib.views.export.prometheus import prometheus_text

    text = prometheus_text(reports_uri, limit)
    if output != "-":
        files.write_bytes(normalize_uri(output), text.encode())
    return View(
        renderables=[], text=text if output == "-" else "", result={"prometheus": output, "text": text}
    )


def view_page(reports_uri: str, name: str | None, output: str) -> View:
    """Writes the page of a report, or of all reports if `name` is None, to `output`."""
    from cnnlib.views.page.publish import draw_page

    uri = normalize_uri(output)
    page = draw_page(reports_uri, uri, resolve(reports_uri, name) if name else None)
    files.write_bytes(uri, page.encode())
    return View(renderables=[], text=f"{uri}\n", result={"page": uri})


def _view_several(reports_uri: str, reports: Sequence[Report]) -> View:
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
