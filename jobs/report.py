"""Lists reports, shows one by class, compares two or ranks several; also shows the cost of models, gauges and pages.

Imports neither TensorFlow nor Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg

from cnnlib.errors import ConfigError
from cnnlib.storage.uri import normalize_uri
from cnnlib.views.view import view_experiments, view_gauges, view_ladder, view_page, view_reports, view_seeds
from jobs.cli import exit_with, run_job, show
from jobs.flags import parse_args


@dataclass(frozen=True, kw_only=True)
class Args:
    """The folder of the reports, and which of them to show."""

    reports: Annotated[Positional[str], arg(metavar="REPORTS_URI")]
    """Folder that jobs.evaluate wrote to: a path or s3://bucket/prefix."""
    ids: Annotated[Positional[tuple[str, ...]], arg(metavar="[ID ...]", help_behavior_hint="")] = ()
    """Ids of reports: without an id, the newest are listed; one is shown, two are compared, more are ranked.
    An id may be shortened while it is unique. latest and previous name the newest report and the one before it."""
    limit: int = 20
    """Largest number of reports to list."""
    experiments: bool = False
    """Show instead the accuracy and cost of every model, and how its cost grows from 28x28 pixels to 4K."""
    seeds: bool = False
    """Show instead the median accuracy of the runs of jobs.train --seeds, and its spread between seeds."""
    ladder: str | None = None
    """A ladder file (TOML), such as infra/ladder/fashion-mnist.toml: shows, as Markdown, what its recipes reach and
    cost beside published results. None: no ladder."""
    plot: str | None = None
    """Path or URI where --experiments or --ladder also writes a chart (PNG). None: no chart."""
    prometheus: str | None = None
    """File where the newest report of each run, dataset and split is written as gauges for Prometheus; - for stdout.
    At most --limit reports are written. None: no gauges."""
    html: str | None = None
    """File or s3:// object where a page is written: of the report with the given id, or, without an id, of all reports.
    None: no page."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""

    def __post_init__(self) -> None:
        for uri in (self.reports, self.ladder, self.plot, self.prometheus, self.html):
            if uri is not None and uri != "-":
                normalize_uri(uri)  # a mistyped URI is an error before anything is read
        if self.limit < 1:
            raise ConfigError(f"limit must be at least 1. Received {self.limit}.")
        others = (self.experiments, self.seeds, self.ladder is not None, self.prometheus is not None)
        if sum((bool(self.ids), *others)) > 1:
            raise ConfigError(
                "Expected one of: ids, --experiments, --seeds, --ladder, --prometheus. Received several."
            )
        if self.html is not None and (len(self.ids) > 1 or any(others)):
            raise ConfigError(
                "--html draws one report, or all without an id. Received several ids, --experiments, --seeds, "
                "--ladder or --prometheus."
            )
        if self.plot is not None and not self.experiments and self.ladder is None:
            raise ConfigError(
                f"--plot draws what --experiments or --ladder shows. Received --plot {self.plot} without them."
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, shows what it asks for, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.report", description=__doc__)
    return run_job(lambda: _show_reports(args), json=args.json)


def _show_reports(args: Args) -> dict[str, Any]:
    if args.experiments:
        view = view_experiments(args.reports, args.plot)
    elif args.seeds:
        view = view_seeds(args.reports)
    elif args.ladder is not None:
        view = view_ladder(args.reports, args.ladder, args.plot)
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
