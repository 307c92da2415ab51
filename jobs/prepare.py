"""Converts a source of images into a dataset: Parquet shards and a manifest.

python -m jobs.prepare folders DIR --output URI      image files, one folder per class

python -m jobs.prepare table FILE --output URI       image files that a CSV, JSON lines or Parquet file names

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
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg, subcommand

from cnnlib.dataset.source import Source
from cnnlib.errors import ConfigError
from cnnlib.log import log_event
from cnnlib.storage import layout
from cnnlib.storage.uri import normalize_uri
from jobs.cli import exit_with, has_terminal, run_job
from jobs.flags import parse_args

if TYPE_CHECKING:
    from cnnlib.dataset.decode import ImageRules
    from cnnlib.dataset.encoding import ImageEncoding
    from cnnlib.dataset.streamed import StreamedSource


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


@dataclass(frozen=True, kw_only=True)
class Npz(_Output):
    """NumPy arrays: x_train, y_train, x_test, y_test, or train_images, train_labels, …; uint8 pixels."""

    file: Annotated[Positional[str], arg(metavar="FILE")]
    """The .npz file: a path or s3://bucket/key."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of the labels. Without names, the numbers of the labels are used."""

    def load(self) -> Source:
        """Reads the arrays."""
        from cnnlib.sources.npz import load_npz

        return load_npz(normalize_uri(self.file), self.class_names)


@dataclass(frozen=True, kw_only=True)
class Cifar(_Output):
    """CIFAR-10 or CIFAR-100: a folder with the files of the Python or the binary version."""

    directory: Annotated[Positional[str], arg(metavar="DIR")]
    """Folder with the files: a path or s3://bucket/prefix."""

    def load(self) -> Source:
        """Reads the files."""
        from cnnlib.sources.cifar import load_cifar

        return load_cifar(normalize_uri(self.directory))


@dataclass(frozen=True, kw_only=True)
class _ImageFiles(_Output):
    size: str | None = None
    """Size of every image in pixels: 224, or HEIGHTxWIDTH. None: all images must have the same size."""
    resize: Literal["fill", "fit", "stretch"] = "fill"
    """How images of another shape get that size: fill cuts off what is too much, fit adds background, stretch
    distorts."""
    channels: Literal[1, 3] = 3
    """1 for grey images, 3 for colour."""
    encoding: Literal["raw", "jpeg", "png"] = "raw"
    """What the shards hold. raw: the pixels in the size above. jpeg, png: image files, as they came where they have
    that format, in their own size; they are decoded whenever they are read, and a training can crop them anew in every
    epoch."""
    background: str = "white"
    """What lies behind transparent pixels, and beside an image with --resize fit: white, black, grey or RRGGBB."""
    splits: tuple[str, ...] = ()
    """Where the source has no splits of its own: the fraction of each, such as train=0.8,val=0.1,test=0.1. The content
    of an image decides where it goes, so images that are added later move no other. None: train=0.9,test=0.1."""
    class_names: tuple[str, ...] = ()
    """The classes in the order of their indexes; for a table with numbers as labels, the name of each number.
    Without names, they are sorted."""
    max_images: int | None = None
    """The most images of each class, and of each split that the source has, for a first try. None: all."""
    max_bad: float = 0.01
    """The fraction of images, 0..1, that may be unusable; they are listed in quarantine.parquet."""
    strict: bool = False
    """Accept no unusable image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_bad <= 1:
            raise ConfigError(f"max_bad must be a fraction, 0..1. Received {self.max_bad:g}.")
        if self.max_images is not None and self.max_images < 1:
            raise ConfigError(f"max_images must be at least 1. Received {self.max_images}.")

    def rules(self) -> ImageRules:
        """Returns what every image becomes."""
        from cnnlib.dataset.decode import ImageRules
        from cnnlib.sources.image_files import parse_colour, parse_size

        return ImageRules(
            size=parse_size(self.size),
            resize=self.resize,
            channels=self.channels,
            background=parse_colour(self.background),
        )

    def stored(self) -> ImageEncoding | None:
        """Returns how image files are stored; None: the pixels are stored."""
        from cnnlib.dataset.encoding import ImageEncoding

        return None if self.encoding == "raw" else ImageEncoding(format=self.encoding, rules=self.rules())


@dataclass(frozen=True, kw_only=True)
class Folders(_ImageFiles):
    """Image files (JPEG, PNG, WebP, BMP, TIFF, GIF), one folder per class; train/, val/, test/ above are understood."""

    directory: Annotated[Positional[str], arg(metavar="DIR")]
    """The folder: a path or s3://bucket/prefix."""

    def load_streamed(self) -> StreamedSource:
        """Lists the images."""
        from cnnlib.sources.folders import load_folders
        from cnnlib.sources.image_files import check_output

        check_output(normalize_uri(self.directory), normalize_uri(self.output))
        return load_folders(
            normalize_uri(self.directory),
            self.rules(),
            class_names=self.class_names,
            splits=self.splits,
            max_images=self.max_images,
        )


@dataclass(frozen=True, kw_only=True)
class Table(_ImageFiles):
    """Image files that a table names: CSV, JSON lines or Parquet with a path, a label, and any further columns."""

    file: Annotated[Positional[str], arg(metavar="FILE")]
    """The table: a path or s3://bucket/key. Its paths are relative to its folder, absolute, or URIs."""
    path_column: str | None = None
    """The column with the paths. None: the one that is called path, file, filename, image, uri, …"""
    label_column: str | None = None
    """The column with the labels, names or numbers. None: the one that is called label, class, category, target, …"""
    split_column: str | None = None
    """The column with the splits. None: the one that is called split, if there is one."""
    first_label: int | None = None
    """For labels that are numbers, with --class-names: the number of the first class. None: 0, or 1 if they plainly
    count from 1."""

    def load_streamed(self) -> StreamedSource:
        """Reads the table."""
        from cnnlib.sources.table import TableColumns, load_table

        return load_table(
            normalize_uri(self.file),
            self.rules(),
            columns=TableColumns(
                path=self.path_column,
                label=self.label_column,
                split=self.split_column,
                first_label=self.first_label,
            ),
            class_names=self.class_names,
            splits=self.splits,
            max_images=self.max_images,
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
    | Annotated[FashionMnist, subcommand("fashion-mnist")]
    | Annotated[Idx, subcommand("idx")]
    | Annotated[Npz, subcommand("npz")]
    | Annotated[Cifar, subcommand("cifar")]
    | Annotated[Verify, subcommand("verify")]
)
AnySource = Folders | Table | FashionMnist | Idx | Npz | Cifar


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
            log_event("labels", note=f"{name} has no rows of these classes: {', '.join(absent)}")
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
    if isinstance(args, _ImageFiles):
        from cnnlib.dataset.stream_writer import StreamOptions, write_streamed
        from cnnlib.sources.executor import run_tasks

        options = StreamOptions(
            max_bad=0.0 if args.strict else args.max_bad, shard_bytes=shard_bytes, encoding=args.stored()
        )
        return write_streamed(args.load_streamed(), output, options, run_tasks, live=has_terminal()).created
    from cnnlib.dataset.writer import check_output, write_dataset

    source = args.load()
    return not check_output(source, output) and write_dataset(source, output, shard_bytes).created


if __name__ == "__main__":
    exit_with(main())
