"""Predicts unlabelled images: python -m jobs.predict --checkpoint RUNS/NAME --images FOLDER --output URI.

The images are those of a folder, a pattern such as 'DIR/2026-*.jpg', or a dataset that jobs.prepare wrote; paths and
s3:// alike. OUTPUT gets Parquet files with a row for every image, and a manifest when all are done. The same command
continues after an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from cnnlib.predict_config import PredictConfig
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, run_job
from jobs.flags import parse_args

if TYPE_CHECKING:
    from cnnlib.prediction.run import PredictResult


@dataclass(frozen=True, kw_only=True)
class Args:
    """The model, the images and the folder of the predictions."""

    checkpoint: str
    """The model: RUNS/NAME for a run's last checkpoint, RUNS/NAME@best or RUNS/NAME@7 for another one, the folder of a
    checkpoint, or a .keras or .h5 file."""
    images: str
    """The images: a folder, at any depth, a pattern of files, or a dataset; a path or s3://bucket/prefix."""
    output: str
    """Folder of the predictions: a path or s3://bucket/prefix. It must be empty, or hold these same predictions."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    config: Annotated[PredictConfig, arg(name="")] = field(default_factory=PredictConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, predicts, and returns the exit code."""
    args = parse_args(Args, argv, prog="python -m jobs.predict", description=__doc__)
    return run_job(lambda: _predict(args), json=args.json)


def _predict(args: Args) -> PredictResult:
    from cnnlib.prediction.run import plan_prediction, predict

    images, output = normalize_uri(args.images), normalize_uri(args.output)
    return predict(plan_prediction(args.config, args.checkpoint, images, output))


if __name__ == "__main__":
    exit_with(main())
