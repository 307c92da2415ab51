"""Measures the rung `seconds`: the time from command to checkpoint of a recipe, and the accuracy of its checkpoint.

    python -m infra.ladder.seconds infra/ladder/recipes/seconds.toml --data DATA --output FOLDER

It trains the recipe once for each seed, one run after the other, each by its own command as a person would type it.
The time begins before the command starts and ends when it has ended, just after its last checkpoint: it holds the
imports, the start of Ray and of the worker, the tracing and all epochs. Each checkpoint is then scored once on the test
split, off the clock. Leave the machine alone meanwhile. The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, scores and prints the table.

    Raises:
        SystemExit: a run of one of the names exists, whose time is not known any more.
        subprocess.CalledProcessError: a job failed; it has said why on stderr.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="path of a recipe file")
    parser.add_argument("--data", required=True, help="a prepared dataset with a test split")
    parser.add_argument("--output", required=True, help="folder of the runs and the reports")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args(argv)
    name = Path(args.recipe).stem
    runs, reports = f"{args.output}/runs", f"{args.output}/reports"
    taken = [seed for seed in args.seeds if Path(runs, f"{name}-seed-{seed}").exists()]
    if taken:
        parser.error(
            f"{runs} has runs of {name} with the seeds {taken}, which would only be resumed. Give another folder."
        )
    rows = []
    print("| seed | seconds from command to checkpoint | test accuracy |\n| --- | --- | --- |")
    for seed in args.seeds:
        run = f"{name}-seed-{seed}"
        begin = time.monotonic()
        _job("train", args.recipe, "--data", args.data, "--runs", runs, "--name", run, "--seed", str(seed))
        seconds = time.monotonic() - begin
        said = _job(
            "evaluate",
            *("--checkpoint", f"{runs}/{run}", "--data", args.data, "--reports", reports, "--json"),
        )
        accuracy = float(json.loads(said.splitlines()[-1])["reports"][0]["accuracy"])
        rows.append((seconds, accuracy))
        print(f"| {seed} | {seconds:.1f} | {accuracy:.2%} |", flush=True)
    seconds, accuracy = (statistics.mean(column) for column in zip(*rows, strict=True))
    print(f"| mean of {len(rows)} | **{seconds:.1f}** | **{accuracy:.2%}** |")


def _job(job: str, *arguments: str) -> str:
    """Runs a job; its progress goes to stderr. Returns what it printed."""
    command = [sys.executable, "-m", f"jobs.{job}", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
