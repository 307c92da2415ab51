"""Measures this project against named peers, as ratios: python -m jobs.bench [STAGE …]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from rich.table import Table
from tyro.conf import Positional, arg

from cnnlib.bench.harness import Ratio, compare
from cnnlib.bench.stages import STAGES, build_stage
from cnnlib.cluster import num_cores
from jobs.cli import exit_with, parse_args, run_job, show


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which stages, and how often."""

    stages: Annotated[Positional[tuple[str, ...]], arg(metavar="STAGE")] = tuple(STAGES)
    """The stages to run; none given: all."""
    pairs: int = 5
    """How often ours and the peer's run in turn."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.bench", description=__doc__)
    return run_job(lambda: _bench(args), json=args.json)


def _bench(args: Args) -> dict[str, Any]:
    comparisons = [each for stage in args.stages for each in build_stage(stage, num_cores())]
    ratios = [compare(each, args.pairs) for each in comparisons]
    show(_render(ratios))
    return {"ratios": [ratio.to_row() for ratio in ratios]}


def _render(ratios: Sequence[Ratio]) -> Table:
    table = Table(
        "stage", "case", "peer", "ratio", "min..max", "ours", "peer's", "n", "target", "met", box=None
    )
    for each in ratios:
        spread = f"{each.ratio_min:.2f}..{each.ratio_max:.2f}"
        rates = f"{each.ours_median:.0f}/s", f"{each.peer_median:.0f}/s"
        verdict = f"{each.target:g}", "yes" if each.met else "no"
        table.add_row(
            each.stage,
            each.case,
            each.peer,
            f"{each.ratio_median:.2f}",
            spread,
            *rates,
            str(each.n),
            *verdict,
        )
    return table


if __name__ == "__main__":
    exit_with(main())
