"""The flags of `jobs.prepare`, one class for each source; each loads what it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from cnnlib.dataset.source import Source
from cnnlib.errors import ConfigError
from cnnlib.storage.uri import normalize_uri

if TYPE_CHECKING:
    from cnnlib.dataset.decode import ImageRules
    from cnnlib.dataset.encoding import ImageEncoding
    from cnnlib.dataset.streamed import StreamedSource
    from cnnlib.sources.packed.records import PackedOptions


@dataclass(frozen=True, kw_only=True)
class Output:
    """What every source has in common."""

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
class FashionMnist(Output):
    """Fashion-MNIST: 60,000 train and 10,000 test images of 28x28x1, 10 classes."""

    source: str | None = None
    """Folder with the four files: a path or s3://bucket/prefix.
    None: Debian's package, Keras's cache or a download, the first that works."""

    def load(self) -> Source:
        """Finds and reads the four files."""
        from cnnlib.sources.fashion_mnist import load_fashion_mnist

        return load_fashion_mnist(normalize_uri(self.source) if self.source else None)


@dataclass(frozen=True, kw_only=True)
class Idx(Output):
    """Any IDX dataset: a folder with train and t10k (or test) files, gzipped or not; EMNIST too."""

    directory: Annotated[Positional[str], arg(metavar="DIR")]
    """Folder with the files: a path or s3://bucket/prefix."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of the labels. Without names, the numbers of the labels are used."""
    first_label: int | None = None
    """The number of the first class. None: 0, or 1 if the labels plainly count from 1."""
    prefix: str | None = None
    """What the files' names begin with, if DIR holds several datasets, such as emnist-letters. None: the only one."""
    transpose: bool = False
    """Swap the height and width of the images, which EMNIST stores transposed."""

    def load(self) -> Source:
        """Reads the four files."""
        from cnnlib.sources.idx import load_idx

        return load_idx(
            normalize_uri(self.directory),
            self.class_names or None,
            first_label=self.first_label,
            prefix=self.prefix,
            transpose=self.transpose,
        )


@dataclass(frozen=True, kw_only=True)
class Npz(Output):
    """NumPy arrays: x_train, y_train, x_test, y_test, or train_images, train_labels, …; uint8 pixels."""

    file: Annotated[Positional[str], arg(metavar="FILE")]
    """The .npz file: a path or s3://bucket/key."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of the labels. Without names, the numbers of the labels are used."""
    first_label: int | None = None
    """The number of the first class. None: 0, or 1 if the labels plainly count from 1."""

    def load(self) -> Source:
        """Reads the arrays."""
        from cnnlib.sources.npz import load_npz

        return load_npz(normalize_uri(self.file), self.class_names, self.first_label)


@dataclass(frozen=True, kw_only=True)
class Cifar(Output):
    """CIFAR-10 or CIFAR-100: a folder with the files of the Python or the binary version."""

    directory: Annotated[Positional[str], arg(metavar="DIR")]
    """Folder with the files: a path or s3://bucket/prefix."""

    def load(self) -> Source:
        """Reads the files."""
        from cnnlib.sources.cifar import load_cifar

        return load_cifar(normalize_uri(self.directory))


@dataclass(frozen=True, kw_only=True)
class ImageFiles(Output):
    """What every source of image files has in common."""

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
class Folders(ImageFiles):
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
class Table(ImageFiles):
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
class _Packed(ImageFiles):
    label_column: str | None = None
    """What holds the labels, names or numbers. None: the one with a usual name: label, class, category, target, …"""
    first_label: int | None = None
    """For labels that are numbers, with --class-names: the number of the first class. None: 0, or 1 if they plainly
    count from 1."""

    def packed(self, source: str, **columns: str | None) -> PackedOptions:
        """Returns how the records become rows, once it is clear that they do not lie where the dataset will."""
        from cnnlib.sources.image_files import check_output
        from cnnlib.sources.packed.records import PackedOptions

        if not any(mark in source for mark in "*?[{"):
            check_output(normalize_uri(source), normalize_uri(self.output))
        return PackedOptions(
            rules=self.rules(),
            label_column=self.label_column,
            first_label=self.first_label,
            class_names=self.class_names,
            splits=self.splits,
            max_images=self.max_images,
            **columns,
        )


@dataclass(frozen=True, kw_only=True)
class ParquetImages(_Packed):
    """Parquet files that hold the images as bytes, those of Hugging Face datasets included."""

    directory: Annotated[Positional[str], arg(metavar="DIR")]
    """A folder with the files, one file, or a pattern such as 'data/train-*.parquet': paths or s3://bucket/…"""
    image_column: str | None = None
    """The column with the images: bytes, or bytes and path. None: the only such column."""
    split_column: str | None = None
    """The column with the splits. None: the one that is called split, else the names of the files, if they have train,
    val or test in them."""

    def load_streamed(self) -> StreamedSource:
        """Lists the rows, and copies the images."""
        from cnnlib.sources.packed.parquet_images import load_parquet_images

        options = self.packed(self.directory, image_column=self.image_column, split_column=self.split_column)
        return load_parquet_images(normalize_uri(self.directory), normalize_uri(self.output), options)


@dataclass(frozen=True, kw_only=True)
class WebDataset(_Packed):
    """Tar files of WebDataset: KEY.jpg with KEY.cls or KEY.json; splits by train, val, test in the files' names."""

    glob: Annotated[Positional[str], arg(metavar="GLOB")]
    """A pattern such as 'data/train-*.tar' or 'data/train-{000..146}.tar', a folder, or one file: paths or
    s3://bucket/…"""

    def load_streamed(self) -> StreamedSource:
        """Lists the samples."""
        from cnnlib.sources.packed.webdataset import load_webdataset

        return load_webdataset(normalize_uri(self.glob), self.packed(self.glob))


@dataclass(frozen=True, kw_only=True)
class TfRecord(_Packed):
    """TFRecord files of tf.train.Example; splits by train, val, test in the files' names."""

    glob: Annotated[Positional[str], arg(metavar="GLOB")]
    """A pattern such as 'data/train-*', a folder, or one file: paths or s3://bucket/…"""
    image_column: str | None = None
    """The feature with the encoded image. None: image/encoded, image, …"""

    def load_streamed(self) -> StreamedSource:
        """Lists the records."""
        from cnnlib.sources.packed.tfrecord import load_tfrecord

        return load_tfrecord(normalize_uri(self.glob), self.packed(self.glob, image_column=self.image_column))
