"""Shows reports: a list, one with its classes, two compared, more ranked; what models cost; gauges; HTML pages.

Loads neither TensorFlow nor Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg

from cnnlib.errors import ConfigError
from cnnlib.views.view import view_experiments, view_gauges, view_page, view_reports
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
    experiments: bool = False
    """Instead: what each model reaches and costs, and how its costs grow from 28x28 pixels to 4K."""
    plot: str | None = None
    """With --experiments: write them as a picture (PNG) too, to this path or URI."""
    prometheus: str | None = None
    """Instead: write the newest report of each run, dataset and split as gauges for Prometheus to this file, - for
    stdout; --limit of them at most."""
    html: str | None = None
    """Write a page to this file or s3:// object: of the report with the id, or, without an id, of all reports."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ConfigError(f"limit must be at least 1. Received {self.limit}.")
        if sum((bool(self.ids), self.experiments, self.prometheus is not None)) > 1:
            raise ConfigError("Expected one of: ids, --experiments, --prometheus. Received several.")
        if self.html is not None and (len(self.ids) > 1 or self.experiments or self.prometheus is not None):
            raise ConfigError("--html draws one report, or without an id all. Received more than an id.")
        if self.plot is not None and not self.experiments:
            raise ConfigError(f"--plot draws what --experiments shows. Received --plot {self.plot} alone.")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, shows what it asks for, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.report", description=__doc__)
    return run_job(lambda: _show_reports(args), json=args.json)


def _show_reports(args: Args) -> dict[str, Any]:
    if args.experiments:
        view = view_experiments(args.reports, args.plot)
    elif args.prometheus is not None:
        view = view_gauges(args.reports, args.prometheus, args.limit)
    elif args.html is not None:
        view = view_page(args.reports, next(iter(args.ids), None), args.html)
    else:
        view = view_reports(args.reports, args.ids, args.limit)
    show(*view.renderables)
    print(view.text, end="")
    return view.result


if __name__ == "__main__":
    exit_with(main())
