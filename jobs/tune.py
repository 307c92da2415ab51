"""Searches values of a recipe: python -m jobs.tune RECIPE --data URI --output URI --range NAME=FROM..TO [overrides].

Every trial is a training with other values, scored on validation rows. OUTPUT/recipe.toml is the best one, for
`python -m jobs.train OUTPUT/recipe.toml`. The same command goes on after an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro import MISSING
from tyro.conf import UseAppendAction, arg

from cnnlib.storage.uri import normalize_uri
from cnnlib.tune_config import TuneConfig
from jobs.cli import exit_with, run_job, show
from jobs.flags import TrainFlags, parse_args, pick_recipe

if TYPE_CHECKING:
    from cnnlib.tuning.run import TuneResult


@dataclass(frozen=True, kw_only=True)
class Args:
    """The data, the ranges, the results, and the config that all trials share."""

    data: str
    """The dataset that jobs.prepare wrote: a path or s3://bucket/prefix. The test split is not read."""
    output: str
    """Folder of the search: a path or s3://bucket/prefix. It must be empty, or hold this same search."""
    range: UseAppendAction[tuple[str, ...]] = ()
    """Values to search: NAME=FROM..TO or NAME=A,B. NAME is a flag of jobs.train without its dashes. Between ends
    of which one is ten times the other, or more, fractions are drawn on a log scale; whole numbers, and fractions
    between other ends, all have the same probability. Give it again for each field."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    tune: TuneConfig = field(default_factory=TuneConfig)
    config: Annotated[TrainFlags, arg(name="")]


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, searches, and returns the exit code."""
    name, recipe, flags = pick_recipe(argv, "python -m jobs.tune", __doc__)
    default = Args(data=MISSING, output=MISSING, config=TrainFlags.of(recipe.config))
    prog = f"python -m jobs.tune {name}"
    args = parse_args(Args, flags, prog=prog, description=recipe.summary, default=default)
    return run_job(lambda: _search(args, name), json=args.json)


def _search(args: Args, recipe: str) -> TuneResult:
    from cnnlib.tuning.run import plan_search, search
    from cnnlib.views.terminal.trials import render_trials

    data, output = normalize_uri(args.data), normalize_uri(args.output)
    result = search(plan_search(args.tune, args.config.to_config(), args.range, data, output, recipe))
    show(render_trials(result["trials"], result["best"]["trial"]))
    return result


if __name__ == "__main__":
    exit_with(main())
