"""Scores checkpoints on a split and writes one report for each: overall, per class, confusion.

python -m jobs.evaluate --checkpoint RUNS/NAME[@epoch|@best|@last] --data URI --reports URI

python -m jobs.evaluate --checkpoint some.keras --data URI --reports URI

python -m jobs.evaluate --pending RUNS --data URI --reports URI      scores each checkpoint without a report

python -m jobs.evaluate --predictions FILE.parquet --data URI --reports URI      reports on a model of any framework

With --gate, the exit code is 3 if a model fails the gate and 4 if a check is inconclusive. The reports are written
before the gate is evaluated. With --pending, a model that failed its gate is reported at every look, until a later run
of its recipe and model has a report. A checkpoint that cannot be scored does not keep the others from their reports:
then the exit code is 5, unless a model fails the gate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from cnnlib.errors import ConfigError, InputError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.reports.earlier import is_replaced
from cnnlib.reports.read import list_reports, read_report
from cnnlib.storage.uri import normalize_uri
from cnnlib.views.terminal.tables import render_report
from jobs.cli import EXIT_LEFT_OUT, Finished, exit_with, has_terminal, print_error, run_job, show
from jobs.flags import parse_args

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cnnlib.evaluation.outcome import EvaluationOutcome, LeftOut
    from cnnlib.evaluation.plan import EvaluationPlan
    from cnnlib.evaluation.target import Target
    from cnnlib.gates.apply import GateResult
    from cnnlib.gates.selection import MadeSlices
    from cnnlib.reports.manifest import ReportRecord


@dataclass(frozen=True, kw_only=True)
class Args:
    """The checkpoints and the dataset to score, and the folder of the reports."""

    checkpoint: tuple[str, ...] = ()
    """Models to score: RUNS/NAME for a run's last checkpoint, RUNS/NAME@best or RUNS/NAME@7 for another one.
    The folder of a checkpoint and a .keras or .h5 file are accepted too."""
    pending: str | None = None
    """Folder of runs, instead of --checkpoint: scores every checkpoint that has no report on this data yet."""
    predictions: str | None = None
    """Predictions of a model of any framework, instead of --checkpoint: a .parquet or .csv file, or a folder of Parquet
    files, with a row for every row of the split: `id` (or `path`), and `probabilities` (a list, or a column for every
    class) or `prediction`. Then metrics that need probabilities have no value."""
    data: str
    """The dataset that jobs.prepare wrote: a path or s3://bucket/prefix."""
    reports: str = "reports"
    """Folder of all reports: a path or s3://bucket/prefix."""
    gate: str | None = None
    """Gate that every model must pass: a TOML file, or `recipe` for the gate of the model's recipe. None: no gate.
    With --pending, the gate is evaluated for the last and the best checkpoint of each run, also if their report exists
    but has no verdict of this gate."""
    gate_every: bool = False
    """With --pending, evaluate the gate for every checkpoint."""
    retry: bool = False
    """With --pending, also try the checkpoints again that an earlier evaluation could not score."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout. What it says about a report is the same for all
    jobs that evaluate it, at once or later, except for `new`: true for the one job that wrote it."""
    config: Annotated[EvaluateConfig, arg(name="")] = field(default_factory=EvaluateConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, evaluates, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.evaluate", description=__doc__)
    return run_job(lambda: _evaluate(args), json=args.json)


def _evaluate(args: Args) -> Finished:
    from cnnlib.evaluation import run
    from cnnlib.evaluation.outcome import LeftOut
    from cnnlib.evaluation.plan import plan_evaluation
    from cnnlib.gates import selection
    from cnnlib.gates.apply import apply_gates, exit_code
    from cnnlib.views.page.publish import publish_pages
    from cnnlib.views.terminal.gates import render_gates

    if (args.gate_every or args.retry) and args.pending is None:
        raise ConfigError("--gate-every and --retry need --pending.")
    pending_uri = normalize_uri(args.pending) if args.pending else None
    data, reports_uri = normalize_uri(args.data), normalize_uri(args.reports)
    gate_text = f"{selection.describe_gate(args.gate)} {args.gate_every}" if args.gate else ""
    plan = plan_evaluation(
        args.config,
        data,
        reports_uri,
        checkpoints=args.checkpoint,
        pending_runs_uri=pending_uri,
        predictions=args.predictions,
        gate=gate_text,
        retry=args.retry,
    )
    gates = (
        selection.select_gates(
            args.gate,
            [plan.subject(target) for target in _gated_targets(plan, every=args.gate_every)],
            reports_uri,
            made=_made_slices(plan),
            skip_unknown=plan.pending is not None,
        )
        if args.gate
        else {}
    )
    outcome = run.evaluate(plan, live=has_terminal())
    scored = {report.report_id for report in outcome.written}
    created = {report.report_id for report in outcome.written if report.created}
    stored: list[ReportRecord] = []
    texts: list[
        RenderableType
    ] = []  # of the reports, of which none is kept: hundreds of checkpoints may be pending
    results: list[GateResult] = []
    records: list[ReportRecord] = []
    lost = {each.target.uri for each in outcome.left_out if each.target}
    lost |= {each.uri for each in outcome.deleted}
    for target in plan.targets:
        if target.uri in lost:
            continue
        report_id = plan.report_id(target)
        try:
            report = read_report(reports_uri, report_id)
            stored.append(report.record)
            if plan.pending is None or report_id in scored:
                texts.append(render_report(report))
            if report_id in gates:
                records = records or list_reports(reports_uri)
                results.append(apply_gates(reports_uri, report_id, gates[report_id], records))
        except InputError as err:  # a report of an earlier evaluation that is damaged
            outcome.left_out.append(LeftOut(uri=target.uri, error=err, target=target))
    if (len(args.checkpoint) == 1 or args.predictions) and outcome.left_out:
        raise outcome.left_out[0].error
    show(*texts)
    show(*map(render_gates, results))
    # Pages come last: reports and verdicts are stored by now, so an error in a page cannot lose them.
    if stored:
        publish_pages(reports_uri, [each.report_id for each in stored], changed=scored | gates.keys())
    failed = {each.report_id for each in results if each.verdict == "fail"}
    kept = {
        record.report_id
        for record in stored
        if record.report_id in failed and not is_replaced(record, records)
    }
    _write_marks(plan, outcome, stored, kept)
    for left_out in outcome.left_out:
        print_error(_describe(left_out))
    # All but `new` describes the stored report, so it is the same for every job that names it.
    rows = [{**record.to_row(), "new": record.report_id in created} for record in stored]
    result = {
        "reports_uri": reports_uri,
        "reports": rows,
        "gates": [gate.to_row() for gate in results],
        "left_out": [
            {
                "checkpoint": each.uri,
                "error": type(each.error).__name__,
                "reason": str(each.error),
                "remembered": each.remembered,
            }
            for each in outcome.left_out
        ],
    }
    code = exit_code(results)
    if outcome.left_out and (
        not failed or not code
    ):  # a gate may call a failure 0; what was left out is none of it
        code = EXIT_LEFT_OUT
    return Finished(result=result, exit_code=code)


def _made_slices(plan: EvaluationPlan) -> MadeSlices:
    from cnnlib.gates.selection import MadeSlices
    from cnnlib.slices.plan import list_slice_names

    config = plan.config

    def list_names(dimensions: Sequence[str]) -> Mapping[str, Sequence[str] | None]:
        return list_slice_names(
            dimensions, config.slice_quantiles, plan.dataset_uri, plan.manifest, config.split
        )

    return MadeSlices(slice_by=config.slice_by, corruptions=config.corruptions, list_names=list_names)


def _gated_targets(plan: EvaluationPlan, *, every: bool) -> list[Target]:
    """Returns the targets that a gate is evaluated for."""
    if plan.pending is None or every:
        return list(plan.targets)
    return [target for target in plan.targets if target.uri in plan.pending.last_and_best]


def _write_marks(
    plan: EvaluationPlan, outcome: EvaluationOutcome, stored: Sequence[ReportRecord], kept: Collection[str]
) -> None:
    """Notes what is done with pending checkpoints, after everything else: see `cnnlib.evaluation.pending`.

    Args:
        stored: the records of the reports that exist now.
        kept: ids of reports that stay pending, because their model failed its gate and no later run has replaced it: a
            job that is tried again must not end with another exit code.
    """
    from cnnlib.evaluation.pending import mark_done, mark_left_out

    if plan.pending is None:
        return
    done = {record.report_id for record in stored} - set(kept)
    for target in plan.pending.targets:
        if (report_id := plan.report_id(target)) in done:
            mark_done(plan.reports_uri, plan.pending.keys[target.uri], report_id)
    for left_out in outcome.left_out:
        mark_left_out(plan.reports_uri, plan.pending.keys[left_out.uri], left_out)


def _describe(left_out: LeftOut) -> str:
    reason = f"{left_out.uri} was left out: {left_out.error}"
    return f"{reason} It was not tried again; --retry does." if left_out.remembered else reason


if __name__ == "__main__":
    exit_with(main())
