"""Trains a recipe: python -m jobs.train RECIPE --data URI --runs URI --name NAME [overrides].

The same command again continues the run from its last checkpoint; a finished run says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from cnnlib.config import TrainConfig
from cnnlib.log import log_event
from cnnlib.recipes import Recipe
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, has_terminal, parse_args, pick_recipe, run_job


@dataclass(frozen=True, kw_only=True)
class Args:
    """Where a run's data and results lie, and its config."""

    data: str
    """The data set, as jobs.prepare wrote it: a path or s3://bucket/prefix."""
    runs: str = "runs"
    """Where runs lie: a path or s3://bucket/prefix. This one goes to RUNS/NAME."""
    name: str
    """The run's name."""
    dry_run: bool = False
    """Check config, data, model and storage, train nothing."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    config: Annotated[TrainConfig, arg(name="")]


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, trains, and returns the exit code."""
    name, recipe, flags = pick_recipe(argv, "python -m jobs.train", __doc__)
    args = parse_args(
        Args,
        flags,
        prog=f"python -m jobs.train {name}",
        description=recipe.summary,
        default=_defaults(name, recipe),
    )
    return run_job(lambda: _train(args, name), json=args.json)


def _defaults(name: str, recipe: Recipe) -> Args:
    from tyro import MISSING

    return Args(data=MISSING, name=name, config=recipe.config)


def _train(args: Args, recipe: str) -> dict[str, Any]:
    from cnnlib.training import launch
    from cnnlib.training.plan import plan_run

    data, runs_uri = normalize_uri(args.data), normalize_uri(args.runs)
    plan = plan_run(args.config, data, runs_uri, args.name, recipe)
    if args.dry_run:
        parameters = launch.check_model(plan)
        log_event("dry-run", result="all checks passed", run=plan.run, parameters=parameters)
        return {
            "status": "checked",
            "run": plan.run,
            "parameters": parameters,
            "steps_per_epoch": plan.steps_per_epoch,
        }
    if plan.finished:
        how = "stopped early" if plan.stopped_early else "finished"
        log_event("run", note=f"{how} already; nothing to train", run=plan.run, epochs=plan.done_epochs)
        return {"status": "finished before", **launch.build_result(plan)}
    launch.train(plan, live=has_terminal())
    return {"status": "finished", **launch.build_result(plan)}


if __name__ == "__main__":
    exit_with(main())
