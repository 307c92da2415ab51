"""Finds the largest batch that fits into memory: python -m jobs.largest_batch RECIPE --data URI [overrides].

Trains a few steps of the recipe with growing batches, each in a process of its own on this machine, so that one that
takes too much ends alone. Shows memory and speed of each, and the batch to take. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro import MISSING
from tyro.conf import arg

from cnnlib.largest_batch_config import LargestBatchConfig
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, run_job, show
from jobs.flags import TrainFlags, parse_args, pick_recipe

if TYPE_CHECKING:
    from cnnlib.training.largest_batch.run import LargestBatch


@dataclass(frozen=True, kw_only=True)
class Args:
    """The data, the batches to try, and the config of the training."""

    data: str
    """The dataset that jobs.prepare wrote: a path or s3://bucket/prefix. Only its manifest is read."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    search: Annotated[LargestBatchConfig, arg(name="")] = field(default_factory=LargestBatchConfig)
    config: Annotated[TrainFlags, arg(name="")]


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, tries the batches, and returns the exit code."""
    name, recipe, flags = pick_recipe(argv, "python -m jobs.largest_batch", __doc__)
    default = Args(data=MISSING, config=TrainFlags.of(recipe.config))
    prog = f"python -m jobs.largest_batch {name}"
    args = parse_args(Args, flags, prog=prog, description=__doc__, default=default)
    return run_job(lambda: _try_batches(args), json=args.json)


def _try_batches(args: Args) -> LargestBatch:
    from cnnlib.training.largest_batch.run import plan_search, search_largest_batch
    from cnnlib.views.terminal.batches import render_batches

    result = search_largest_batch(plan_search(args.config.to_config(), normalize_uri(args.data)), args.search)
    fastest = result["fastest_batch_size"]
    faster = "" if fastest == result["batch_size"] else f"; --batch-size {fastest} was the fastest"
    show(
        render_batches(result["trials"]),
        f"--batch-size {result['batch_size']} is the largest that fits{faster}",
    )
    return result


if __name__ == "__main__":
    exit_with(main())
