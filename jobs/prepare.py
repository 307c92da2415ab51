"""Converts a source of images into a dataset: Parquet shards and a manifest.

python -m jobs.prepare fashion-mnist --output URI    finds or downloads Fashion-MNIST

python -m jobs.prepare idx DIR --output URI          any IDX dataset (MNIST and its relatives)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg, subcommand

from cnnlib.dataset.source import Source
from cnnlib.errors import ConfigError
from cnnlib.log import log_event
from cnnlib.storage import layout
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, run_job
from jobs.flags import parse_args


@dataclass(frozen=True, kw_only=True)
class _Output:
    output: str
    """Folder of the dataset: a path or s3://bucket/prefix. It must be empty, or hold this same dataset."""
    shard_mib: int | None = None
    """MiB of pixels per shard. None: a sixteenth of the split, but at least 4 and at most 16."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""

    def __post_init__(self) -> None:
        if self.shard_mib is not None and self.shard_mib < 1:
            raise ConfigError(f"shard_mib must be at least 1. Received {self.shard_mib}.")


@dataclass(frozen=True, kw_only=True)
class FashionMnist(_Output):
    """Fashion-MNIST: 60,000 train and 10,000 test images of 28x28x1, 10 classes."""

    source: str | None = None
    """Folder with the four files: a path or s3://bucket/prefix.
    None: Debian's package, Keras's cache or a download, the first that works."""

    def load(self) -> Source:
        """Finds and reads the four files."""
        from cnnlib.sources.fashion_mnist import load_fashion_mnist

        return load_fashion_mnist(normalize_uri(self.source) if self.source else None)


@dataclass(frozen=True, kw_only=True)
class Idx(_Output):
    """Any IDX dataset: a folder with train and t10k (or test) files, gzipped or not; EMNIST too."""

    directory: Annotated[Positional[str], arg(metavar="DIR")]
    """Folder with the files: a path or s3://bucket/prefix."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of the labels. Without names, the numbers of the labels are used."""
    prefix: str | None = None
    """What the files' names begin with, if DIR holds several datasets, such as emnist-letters. None: the only one."""
    transpose: bool = False
    """Swap the height and width of the images, which EMNIST stores transposed."""

    def load(self) -> Source:
        """Reads the four files."""
        from cnnlib.sources.idx import load_idx

        names = self.class_names or None
        return load_idx(normalize_uri(self.directory), names, prefix=self.prefix, transpose=self.transpose)


Args = Annotated[FashionMnist, subcommand("fashion-mnist")] | Annotated[Idx, subcommand("idx")]


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, prepares the dataset, and returns the exit code."""
    args: FashionMnist | Idx = parse_args(Args, argv, prog="python -m jobs.prepare", description=__doc__)
    return run_job(lambda: _prepare(args), json=args.json)


def _prepare(args: FashionMnist | Idx) -> dict[str, Any]:
    from cnnlib.dataset.manifest import load_manifest
    from cnnlib.dataset.writer import check_output, write_dataset

    output = normalize_uri(args.output)
    source = args.load()
    created = False
    if not check_output(source, output):
        created = write_dataset(source, output, args.shard_mib and args.shard_mib * 2**20).created
    manifest = load_manifest(output)
    splits = {name: split.rows for name, split in manifest.splits.items()}
    note = {} if created else {"note": "prepared already; nothing was written"}
    log_event("dataset", **note, uri=output, fingerprint=manifest.fingerprint[:16], **splits)
    for name in manifest.splits:
        if absent := manifest.classes_without_rows(name):
            log_event("labels", note=f"{name} has no rows of these classes: {', '.join(absent)}")
    return {
        "dataset": output,
        "fingerprint": manifest.fingerprint,
        "image_shape": list(manifest.image_shape),
        "classes": list(manifest.class_names),
        "rows": splits,
        "preview": layout.dataset_preview(output),
    }


if __name__ == "__main__":
    exit_with(main())
