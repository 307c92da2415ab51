"""Compares this project with named peers, as ratios: python -m jobs.bench [STAGE …].

Stages: step, augment, train, train-images, job, start, ingest, ingest-images, evaluate, prepare, prepare-images, gpu;
see docs/benchmarks/README.md.
"""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cnnlib.bench import machine, record
from cnnlib.bench.harness import Row, compare
from cnnlib.bench.inputs import Inputs
from cnnlib.bench.present import build_table
from cnnlib.bench.stages.registry import STAGES, build_stage
from cnnlib.bench.stages.setting import Setting
from cnnlib.errors import ConfigError
from cnnlib.log import log_event
from cnnlib.storage.uri import normalize_uri
from jobs.cli import EXIT_DONE, EXIT_FAILED, Finished, exit_with, run_job, show
from jobs.flags import parse_args

_FASHION_MNIST_ROWS = 60_000


@dataclass(frozen=True, kw_only=True)
class Args:
    """Holds the options of the command line."""

    stages: Annotated[Positional[tuple[str, ...]], arg(metavar="STAGE")] = tuple(STAGES)
    """The stages to run. Without any, all of them run, which takes hours."""
    pairs: int = 5
    """Number of pairs: in each, this project and the peer run once, in turn."""
    batch_sizes: tuple[int, ...] = (32, 64)
    """Global batch sizes of the stages that train or read batches."""
    rows: int | None = None
    """Number of training images in every stage, at most 60000. None: the number for which each target is set."""
    cores: int | None = None
    """Number of cores that all programs are pinned to. None: all cores that this process may use."""
    output: str = "out/bench"
    """Folder of the record: every pair in Parquet, and a page. Earlier rows stay in the record."""
    theme: str = "engine"
    """First word in the name of the record, THEME_HARDWARE_YYYYMM."""
    json: bool = False
    """Print the rows as a JSON list on the last line of stdout."""

    def __post_init__(self) -> None:
        for name, value in (("pairs", self.pairs), ("rows", self.rows), ("cores", self.cores)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1. Received {value}.")
        if self.rows is not None and self.rows > _FASHION_MNIST_ROWS:
            raise ConfigError(
                f"rows must be at most {_FASHION_MNIST_ROWS}, the size of Fashion-MNIST. Received {self.rows}."
            )
        if not self.batch_sizes or min(self.batch_sizes) < 2 or any(size % 2 for size in self.batch_sizes):
            raise ConfigError(f"batch_sizes must be even numbers. Received {self.batch_sizes}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, runs the benchmark, and returns the exit code: 1 if a program failed."""
    args = parse_args(Args, argv, prog="python -m jobs.bench", description=__doc__)
    words = sys.argv[1:] if argv is None else argv
    return run_job(lambda: _bench(args, shlex.join(["python", "-m", "jobs.bench", *words])), json=args.json)


def _bench(args: Args, command: str) -> Finished:
    rows: list[Row] = []
    output = normalize_uri(args.output)
    cores = machine.pin(args.cores)
    setting = Setting(threads=cores, batch_sizes=args.batch_sizes, rows=args.rows)
    comparisons = [each for stage in args.stages for each in build_stage(stage, setting)]
    here = machine.describe_machine(cores)
    with tempfile.TemporaryDirectory(prefix="cnnlib-bench-") as folder:
        for comparison in comparisons:
            found = compare(comparison, args.pairs, Inputs(Path(folder)))
            rows += found
            # Written after every comparison, so that a later failure loses nothing.
            entries = [
                record.Entry(row=row, machine=here, time=machine.utc_now(), command=command) for row in found
            ]
            page = record.write_record(output, args.theme, entries)
    show(build_table(rows))
    log_event("record", page=page)
    exit_code = EXIT_FAILED if any(row.failed for row in rows) else EXIT_DONE
    return Finished(result=[row.to_json() for row in rows], exit_code=exit_code)


if __name__ == "__main__":
    # sys.exit unwinds the stack, so the measured program is stopped and the inputs are deleted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    exit_with(main())
