"""Tries learning rates: python -m jobs.learning_rate RECIPE --data URI [overrides].

A learning-rate range test (Smith 2017): some steps of the recipe's training, each with a larger learning rate than the
one before. It draws the loss against the rate, and names two rates to begin with: where the loss falls most steeply,
and a tenth of the rate at its minimum. It runs in this process, on one device, and keeps no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro import MISSING
from tyro.conf import arg

from cnnlib.range_test_config import RangeTestConfig
from cnnlib.storage import layout
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, run_job
from jobs.flags import TrainFlags, parse_args, pick_recipe

if TYPE_CHECKING:
    from cnnlib.training.range_test.run import RangeTestResult


@dataclass(frozen=True, kw_only=True)
class Args:
    """The data, the rates, the folder of the results, and the config of the training."""

    data: str
    """The dataset that jobs.prepare wrote: a path or s3://bucket/prefix."""
    output: str = "learning-rates"
    """Folder of the results: a path or s3://bucket/prefix. This one is written to OUTPUT/RECIPE."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    test: RangeTestConfig = field(default_factory=RangeTestConfig)
    config: Annotated[TrainFlags, arg(name="")]


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, tries the rates, and returns the exit code."""
    name, recipe, flags = pick_recipe(argv, "python -m jobs.learning_rate", __doc__)
    default = Args(data=MISSING, config=TrainFlags.of(recipe.config))
    prog = f"python -m jobs.learning_rate {name}"
    args = parse_args(Args, flags, prog=prog, description=__doc__, default=default)
    return run_job(lambda: _try_rates(args, name), json=args.json)


def _try_rates(args: Args, recipe: str) -> RangeTestResult:
    from cnnlib.training.plan import plan_run
    from cnnlib.training.range_test.run import run_range_test

    data, output = normalize_uri(args.data), normalize_uri(args.output)
    plan = plan_run(args.config.to_config(), data, output, layout.run_name(recipe), recipe)
    return run_range_test(plan, args.test)


if __name__ == "__main__":
    exit_with(main())
