"""Trains a recipe: python -m jobs.train RECIPE --data URI --runs URI --name NAME [overrides].

The same command continues the run from its last checkpoint; for a finished run it trains nothing and says so.
python -m jobs.train --list-models shows the models, with their costs and options.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro import MISSING
from tyro.conf import arg

from cnnlib.config import TrainConfig
from cnnlib.errors import ConfigError
from cnnlib.log import log_event
from cnnlib.storage import layout
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, has_terminal, run_job, show
from jobs.flags import TrainFlags, parse_args, pick_recipe

if TYPE_CHECKING:
    from cnnlib.training.plan import RunPlan

_LIST_MODELS = "--list-models"


@dataclass(frozen=True, kw_only=True)
class Args:
    """The data, results and config of a run."""

    data: str
    """The dataset that jobs.prepare wrote: a path or s3://bucket/prefix."""
    runs: str = "runs"
    """Folder of all runs: a path or s3://bucket/prefix. This run is written to RUNS/NAME."""
    name: str
    """Name of the run."""
    seeds: tuple[int, ...] = ()
    """Train a run for each of these seeds, NAME-seed-0 and so on, one after the other; it replaces --seed."""
    dry_run: bool = False
    """Check config, data, model and storage, but train nothing.
    The model is built, saved and opened again, and must give the same outputs. With --weights and --freeze, the result
    names the layers that are taken, left and frozen."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    config: Annotated[TrainFlags, arg(name="")]


@dataclass(frozen=True, kw_only=True)
class ListArgs:
    """How to list the models."""

    json: bool = False
    """Print the models as one JSON object on the last line of stdout."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, trains or lists the models, and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [_LIST_MODELS]:
        prog = f"python -m jobs.train {_LIST_MODELS}"
        listed = parse_args(ListArgs, words[1:], prog=prog, description="Lists the models.")
        return run_job(_list_models, json=listed.json)
    name, recipe, flags = pick_recipe(words, "python -m jobs.train", __doc__)
    default = Args(data=MISSING, name=layout.run_name(name), config=TrainFlags.of(recipe.config))
    prog = f"python -m jobs.train {name}"
    args = parse_args(Args, flags, prog=prog, description=recipe.summary, default=default)
    return run_job(lambda: _train_all(args, name), json=args.json)


def _list_models() -> dict[str, Any]:
    from cnnlib.views.view import view_models

    view = view_models()
    show(*view.renderables)
    return view.result


def _train_all(args: Args, recipe: str) -> dict[str, Any]:
    config = args.config.to_config()
    if not args.seeds:
        return _train(args, config, args.name, recipe)
    if len(set(args.seeds)) < len(args.seeds):
        raise ConfigError(
            f"Received a seed twice: {' '.join(map(str, args.seeds))}. Expected different ones."
        )
    configs = {
        layout.seed_run(args.name, seed): dataclasses.replace(config, seed=seed) for seed in args.seeds
    }
    for name, each in configs.items():  # before hours of training, not after
        _plan(args, each, name, recipe)
    runs = [_train(args, each, name, recipe) for name, each in configs.items()]
    return {"status": runs[-1]["status"], "runs": runs}


def _plan(args: Args, config: TrainConfig, name: str, recipe: str) -> RunPlan:
    from cnnlib.training.plan import plan_run

    return plan_run(config, normalize_uri(args.data), normalize_uri(args.runs), name, recipe)


def _train(args: Args, config: TrainConfig, name: str, recipe: str) -> dict[str, Any]:
    from cnnlib.training import launch
    from cnnlib.training.first_weights import log_frozen, log_taken

    plan = _plan(args, config, name, recipe)
    if args.dry_run:
        model = launch.check_model(plan)
        log_event("dry-run", result="all checks passed", run=plan.run, parameters=model.parameters)
        if model.weights is not None:
            log_taken(model.weights, plan.config.weights)
        if model.frozen is not None:
            log_frozen(model.frozen)
        return {
            "status": "checked",
            "run": plan.run,
            "parameters": model.parameters,
            "weights_taken": None if model.weights is None else list(model.weights.taken),
            "weights_left": None if model.weights is None else list(model.weights.left),
            "frozen": None if model.frozen is None else list(model.frozen.layers),
            "opens_in_keras": model.opens_in_keras,
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
