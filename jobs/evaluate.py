"""Scores checkpoints on a split and writes one report for each: overall, per class, confusion.

python -m jobs.evaluate --checkpoint RUNS/NAME[@epoch|@best|@last] --data URI --reports URI

python -m jobs.evaluate --checkpoint some.keras --data URI --reports URI

python -m jobs.evaluate --pending RUNS --data URI --reports URI      scores each checkpoint without a report

With --gate, the exit code is 3 if a model fails the gate and 4 if a check is inconclusive. The reports are written
before the gate is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import arg

from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.reports.read import read_report
from cnnlib.storage.uri import normalize_uri
from cnnlib.views.terminal.tables import render_report
from jobs.cli import Finished, exit_with, has_terminal, run_job, show
from jobs.flags import parse_args


@dataclass(frozen=True, kw_only=True)
class Args:
    """The checkpoints and the dataset to score, and the folder of the reports."""

    checkpoint: tuple[str, ...] = ()
    """Models to score: RUNS/NAME for a run's last checkpoint, RUNS/NAME@best or RUNS/NAME@7 for another one.
    The folder of a checkpoint and a .keras or .h5 file are accepted too."""
    pending: str | None = None
    """Folder of runs, instead of --checkpoint: scores every checkpoint that has no report on this data yet."""
    data: str
    """The dataset that jobs.prepare wrote: a path or s3://bucket/prefix."""
    reports: str = "reports"
    """Folder of all reports: a path or s3://bucket/prefix."""
    gate: str | None = None
    """Gate that every model must pass: a TOML file, or `recipe` for the gate of the model's recipe. None: no gate.
    With --pending, the gate is evaluated for the new reports only."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    config: Annotated[EvaluateConfig, arg(name="")] = field(default_factory=EvaluateConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, evaluates, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.evaluate", description=__doc__)
    return run_job(lambda: _evaluate(args), json=args.json)


def _evaluate(args: Args) -> Finished:
    from cnnlib.evaluation import run
    from cnnlib.evaluation.plan import plan_evaluation
    from cnnlib.gates import selection
    from cnnlib.gates.apply import apply_gates, exit_code
    from cnnlib.views.page.publish import publish_pages
    from cnnlib.views.terminal.gates import render_gates

    pending = normalize_uri(args.pending) if args.pending else None
    data, reports_uri = normalize_uri(args.data), normalize_uri(args.reports)
    plan = plan_evaluation(
        args.config, data, reports_uri, checkpoints=args.checkpoint, pending_runs_uri=pending
    )
    gated = plan.missing if pending else plan.targets
    gates = (
        selection.select_gates(
            args.gate,
            map(plan.subject, gated),
            reports_uri,
            slice_by=args.config.slice_by,
            corruptions=args.config.corruptions,
        )
        if args.gate
        else {}
    )
    new = {report.report_id for report in run.evaluate(plan, live=has_terminal())}
    reports = [read_report(reports_uri, plan.report_id(target)) for target in plan.targets]
    show(*(render_report(report) for report in reports if pending is None or report.record.report_id in new))
    results = [apply_gates(reports_uri, report_id, gate) for report_id, gate in gates.items()]
    show(*map(render_gates, results))
    # Pages come last: reports and verdicts are stored by now, so an error in a page cannot lose them.
    publish_pages(reports_uri, [report.record.report_id for report in reports], changed=new | gates.keys())
    rows = [{**report.record.to_row(), "new": report.record.report_id in new} for report in reports]
    result = {"reports_uri": reports_uri, "reports": rows, "gates": [gate.to_row() for gate in results]}
    return Finished(result=result, exit_code=exit_code(results))


if __name__ == "__main__":
    exit_with(main())
