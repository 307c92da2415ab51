"""Exports a model: python -m jobs.export --checkpoint RUNS/NAME --data DATASET --output URI --format savedmodel.

OUTPUT gets the model for other programs, and a manifest: input, output, classes, and the check. In it the exported
model, read from its files, predicts images of the dataset beside the Keras model: all probabilities must agree, or
nothing is published. The manifest also states the latency of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from cnnlib.export_config import ExportConfig
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, run_job
from jobs.flags import parse_args

if TYPE_CHECKING:
    from cnnlib.export.run import ExportResult


@dataclass(frozen=True, kw_only=True)
class Args:
    """The model, the images of the check and the folder of the result."""

    checkpoint: str
    """The model: RUNS/NAME for a run's last checkpoint, RUNS/NAME@best or RUNS/NAME@7 for another one, the folder of a
    checkpoint, or a .keras or .h5 file."""
    data: str
    """Dataset of jobs.prepare, whose images the check predicts: a path or s3://bucket/prefix."""
    output: str
    """Folder of the exported model: a path or s3://bucket/prefix. It must be empty, or hold this same export."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    config: Annotated[ExportConfig, arg(name="")] = field(default_factory=ExportConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, exports, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.export", description=__doc__)
    return run_job(lambda: _export(args), json=args.json)


def _export(args: Args) -> ExportResult:
    from cnnlib.export.plan import plan_export
    from cnnlib.export.run import export

    data, output = normalize_uri(args.data), normalize_uri(args.output)
    return export(plan_export(args.config, args.checkpoint, data, output))


if __name__ == "__main__":
    exit_with(main())
