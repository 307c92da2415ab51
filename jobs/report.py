"""Shows reports: the newest, one with its classes, or two side by side. Loads neither TensorFlow nor Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg

from cnnlib.errors import ConfigError
from cnnlib.models.growth import list_growth
from cnnlib.reports.compare import compare_classes
from cnnlib.reports.experiment_tables import render_experiments
from cnnlib.reports.experiments import growth_to_row, list_experiments
from cnnlib.reports.prometheus import prometheus_text
from cnnlib.reports.read import list_reports, read_report, resolve
from cnnlib.reports.tables import render_comparison, render_list, render_report
from cnnlib.storage import files
from jobs.cli import exit_with, parse_args, run_job, show


@dataclass(frozen=True, kw_only=True)
class Args:
    """Where the reports lie and which to show."""

    reports: Annotated[Positional[str], arg(metavar="REPORTS_URI")]
    """The folder that jobs.evaluate wrote to: a path or s3://bucket/prefix."""
    ids: Annotated[Positional[tuple[str, ...]], arg(metavar="[ID [ID]]", help_behavior_hint="")] = ()
    """One shows that report, two compare them, none lists the newest. An id may be shortened while unique;
    latest and previous are names."""
    limit: int = 20
    """How many reports to list."""
    experiments: bool = False
    """Instead: what each model reaches and costs, and how its costs grow from 28x28 pixels to 4K."""
    plot: str | None = None
    """With --experiments: write them as a picture (PNG) too, to this path or URI."""
    prometheus: str | None = None
    """Instead: write the newest report of each run, dataset and split as gauges for Prometheus to this file, - for
    stdout; --limit of them at most."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""

    def __post_init__(self) -> None:
        if len(self.ids) > 2 or self.limit < 1:
            raise ConfigError(f"Expected 0 to 2 ids, --limit from 1. Received {len(self.ids)}, {self.limit}.")
        if sum((bool(self.ids), self.experiments, self.prometheus is not None)) > 1:
            raise ConfigError("Expected one of: ids, --experiments, --prometheus. Received several.")
        if self.plot is not None and not self.experiments:
            raise ConfigError(f"--plot draws what --experiments shows. Received --plot {self.plot} alone.")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, shows what it asks for, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.report", description=__doc__)
    return run_job(lambda: _show_reports(args), json=args.json)


def _show_reports(args: Args) -> dict[str, Any]:
    if args.experiments:
        return _show_experiments(args)
    if args.prometheus is not None:
        return _write_gauges(args.reports, args.prometheus, args.limit)
    reports = [read_report(args.reports, resolve(args.reports, name)) for name in args.ids]
    if not reports:
        records = list_reports(args.reports)[: args.limit]
        show(render_list(records))
        return {"reports": [record.to_row() for record in records]}
    if len(reports) == 1:
        show(render_report(reports[0]))
        only = reports[0]
        return {"report": only.overall, "classes": only.classes, "slices": only.slices}
    a, b = reports
    show(render_comparison(a, b))
    classes = [difference.to_row() for difference in compare_classes(a.classes, b.classes)]
    return {"a": a.record.to_row(), "b": b.record.to_row(), "classes": classes}


def _show_experiments(args: Args) -> dict[str, Any]:
    experiments, growths = list_experiments(args.reports), list_growth()
    if args.plot is not None:
        from cnnlib.reports.experiment_plots import experiments_png  # matplotlib takes a second to load

        files.write_bytes(args.plot, experiments_png(experiments, growths))
    show(render_experiments(experiments, growths))
    rows = [experiment.to_row() for experiment in experiments]
    return {"experiments": rows, "growth": list(map(growth_to_row, growths)), "plot": args.plot}


def _write_gauges(reports_uri: str, output: str, limit: int) -> dict[str, Any]:
    text = prometheus_text(reports_uri, limit)
    if output == "-":
        print(text, end="")
    else:
        files.write_bytes(output, text.encode())
    return {"prometheus": output, "text": text}


if __name__ == "__main__":
    exit_with(main())
