"""Converts a source of images into a dataset: Parquet shards and a manifest.

python -m jobs.prepare folders DIR --output URI      image files, one folder per class

python -m jobs.prepare table FILE --output URI       image files that a CSV, JSON lines or Parquet file names

python -m jobs.prepare parquet DIR --output URI      images in Parquet files, such as Hugging Face's

python -m jobs.prepare webdataset GLOB --output URI  tar files with KEY.jpg and KEY.cls or KEY.json

python -m jobs.prepare tfrecord GLOB --output URI    TFRecord files of tf.train.Example

python -m jobs.prepare fashion-mnist --output URI    finds or downloads Fashion-MNIST

python -m jobs.prepare idx DIR --output URI          any IDX dataset (MNIST and its relatives)

python -m jobs.prepare npz FILE --output URI         NumPy arrays, such as Keras's mnist.npz

python -m jobs.prepare cifar DIR --output URI        CIFAR-10 and CIFAR-100

python -m jobs.prepare verify URI                    reads a dataset again and checks every row
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from tyro.conf import Positional, arg, subcommand

from cnnlib.log import log_event
from cnnlib.storage import layout
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, has_terminal, run_job
from jobs.flags import parse_args
from jobs.prepare_flags import (
    Cifar,
    FashionMnist,
    Folders,
    Idx,
    ImageFiles,
    Npz,
    ParquetImages,
    Table,
    TfRecord,
    WebDataset,
)


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Reads a dataset again and checks every shard and every row against the manifest."""

    dataset: Annotated[Positional[str], arg(metavar="URI")]
    """The dataset: a path or s3://bucket/prefix."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""


Args = (
    Annotated[Folders, subcommand("folders")]
    | Annotated[Table, subcommand("table")]
    | Annotated[ParquetImages, subcommand("parquet")]
    | Annotated[WebDataset, subcommand("webdataset")]
    | Annotated[TfRecord, subcommand("tfrecord")]
    | Annotated[FashionMnist, subcommand("fashion-mnist")]
    | Annotated[Idx, subcommand("idx")]
    | Annotated[Npz, subcommand("npz")]
    | Annotated[Cifar, subcommand("cifar")]
    | Annotated[Verify, subcommand("verify")]
)
_SHOWN = 20
AnySource = Folders | Table | ParquetImages | WebDataset | TfRecord | FashionMnist | Idx | Npz | Cifar


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, prepares the dataset, and returns the exit code."""
    args: AnySource | Verify = parse_args(Args, argv, prog="python -m jobs.prepare", description=__doc__)
    work = partial(_verify, args) if isinstance(args, Verify) else partial(_prepare, args)
    return run_job(work, json=args.json)


def _verify(args: Verify) -> dict[str, Any]:
    from cnnlib.dataset.manifest import load_manifest
    from cnnlib.dataset.verify import verify_dataset

    uri = normalize_uri(args.dataset)
    manifest = load_manifest(uri)
    rows = verify_dataset(uri, manifest)
    log_event("dataset", note="every row is as the manifest states", uri=uri, **rows)
    return {"dataset": uri, "fingerprint": manifest.fingerprint, "rows": rows}


def _prepare(args: AnySource) -> dict[str, Any]:
    from cnnlib.dataset.manifest import load_manifest

    output = normalize_uri(args.output)
    created = _write(args, output)
    manifest = load_manifest(output)
    splits = {name: split.rows for name, split in manifest.splits.items()}
    note = {} if created else {"note": "prepared already; nothing was written"}
    log_event("dataset", **note, uri=output, fingerprint=manifest.fingerprint[:16], **splits)
    for name in manifest.splits:
        if absent := manifest.classes_without_rows(name):
            more = f" and {len(absent) - _SHOWN} more" if absent[_SHOWN:] else ""
            shown = ", ".join(absent[:_SHOWN])
            log_event("labels", note=f"{name} has no rows of these classes: {shown}{more}")
    if "train" not in manifest.splits:
        log_event("splits", note="no split is called train: jobs.train needs one, jobs.evaluate does not")
    return {
        "dataset": output,
        "fingerprint": manifest.fingerprint,
        "image_shape": list(manifest.image_shape),
        "classes": list(manifest.class_names),
        "rows": splits,
        "preview": layout.dataset_preview(output),
    }


def _write(args: AnySource, output: str) -> bool:
    """Writes the dataset; returns False if it is there already."""
    shard_bytes = args.shard_mib and args.shard_mib * 2**20
    if isinstance(args, ImageFiles):
        from cnnlib.dataset.stream_writer import StreamOptions, write_streamed
        from cnnlib.sources.executor import run_tasks

        options = StreamOptions(
            max_bad=0.0 if args.strict else args.max_bad, shard_bytes=shard_bytes, encoding=args.stored()
        )
        return write_streamed(args.load_streamed(), output, options, run_tasks, live=has_terminal()).created
    from cnnlib.dataset.writer import write_dataset

    return write_dataset(args.load(), output, shard_bytes).created


if __name__ == "__main__":
    exit_with(main())
