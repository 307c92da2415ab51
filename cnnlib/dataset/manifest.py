"""Describes what a dataset contains: reads and checks its `manifest.json`, the only description that readers trust.

The manifest is written after all shards, so an unfinished dataset has none and cannot be read. A row's position is its
index in the concatenation of its split's shards, in manifest order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnlib.dataset.class_names import check_class_names
from cnnlib.dataset.encoding import ImageEncoding
from cnnlib.dataset.metadata import check_types
from cnnlib.errors import ConfigError, DatasetError, NotFoundError, nearest
from cnnlib.shapes import ImageShape
from cnnlib.storage import layout, publish

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Parquet file of a split.

    Attributes:
        name: the object's name below the dataset's URI.
        sha256: sha256 (hex) of the whole file.
    """

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Split:
    """The shards of one split, in order.

    Attributes:
        rows_per_class: the number of rows of class i at index i.
    """

    rows: int
    rows_per_class: tuple[int, ...]
    shards: tuple[Shard, ...]

    @property
    def num_bytes(self) -> int:
        """Returns the total size of all shards."""
        return sum(shard.bytes for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class ShardRange:
    """The contiguous rows [start, stop) of one shard.

    Attributes:
        shard_index: the shard's index in its split.
        start: first row, counted from the start of the shard.
    """

    shard_index: int
    shard: Shard
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Returns the number of rows."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Describes a dataset: its classes, its image shape, and every shard of every split.

    Attributes:
        image_shape: height, width, channels.
        source: where the rows came from, in words.
        source_digest: `Source.digest`, the sha256 (hex) of the rows before they were written to shards.
        metadata: name and type (bool, int64, float64, string) of the columns besides id, image and label.
        encoding: how image files are stored; None: the shards hold pixels.
    """

    class_names: tuple[str, ...]
    image_shape: ImageShape
    splits: Mapping[str, Split]
    source: str
    source_digest: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    encoding: ImageEncoding | None = None

    @property
    def num_classes(self) -> int:
        """Returns the number of classes."""
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        """Returns the dataset's identity, wherever it is stored: a sha256 (hex) over everything but `source`.

        The digest in a shard's name is left out, so that a dataset keeps the fingerprint it had before names had one.
        """
        content = {key: value for key, value in self._content().items() if key != "source"}
        for split in content["splits"].values():
            for shard in split["shards"]:
                shard["name"] = layout.strip_digest(shard["name"])
        return publish.sha256_hex(publish.canonical_json(content))

    def classes_without_rows(self, split_name: str) -> list[str]:
        """Returns the names of the classes of which a split has no row."""
        counts = self.split(split_name).rows_per_class
        return [name for name, rows in zip(self.class_names, counts, strict=True) if not rows]

    def split(self, name: str) -> Split:
        """Returns the split of that name.

        Raises:
            DatasetError: the dataset has no such split.
        """
        if name not in self.splits:
            raise DatasetError(f"The dataset has no split {name!r}. {nearest(name, self.splits)}")
        return self.splits[name]

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `manifest.json`."""
        return {**self._content(), "fingerprint": self.fingerprint}

    def _content(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "class_names": list(self.class_names),
            "image_shape": list(self.image_shape),
            "splits": {name: dataclasses.asdict(split) for name, split in self.splits.items()},
            "source": self.source,
            "source_digest": self.source_digest,
            # Left out if empty: a dataset without metadata keeps the fingerprint it had before metadata existed.
            **({"metadata": dict(self.metadata)} if self.metadata else {}),
            **({"encoding": self.encoding.to_document()} if self.encoding else {}),
        }


def load_manifest(dataset_uri: str) -> Manifest:
    """Reads and checks a dataset's manifest.

    Raises:
        DatasetError: there is no manifest, or it is damaged, changed, or of another format version, or two of its
            classes have one name.
        AccessError: storage denies access.
    """
    try:
        document = publish.read_manifest(layout.dataset_manifest(dataset_uri))
    except NotFoundError as err:
        raise DatasetError(
            f"No dataset at {dataset_uri}: it has no {layout.MANIFEST}. "
            f"Make one: python -m jobs.prepare fashion-mnist --output {dataset_uri}"
        ) from err
    manifest, fingerprint = _parse(document, dataset_uri)
    if fingerprint != document.get("fingerprint"):
        raise DatasetError(
            f"The manifest of {dataset_uri} was changed after it was written: its fingerprint is "
            f"{document.get('fingerprint')}, expected {fingerprint}. Prepare the dataset again."
        )
    return manifest


def whole_shard(index: int, shard: Shard) -> ShardRange:
    """Returns the range of all rows of a shard, whose index in its split is given."""
    return ShardRange(shard_index=index, shard=shard, start=0, stop=shard.rows)


def shard_ranges(shards: Sequence[Shard], start: int, stop: int) -> Iterator[ShardRange]:
    """Yields the shard ranges that hold the row positions [start, stop), in order."""
    position = 0  # of the shard's first row
    for index, shard in enumerate(shards):
        low, high = max(start - position, 0), min(stop - position, shard.rows)
        if low < high:
            yield ShardRange(shard_index=index, shard=shard, start=low, stop=high)
        position += shard.rows


def _parse(document: Mapping[str, Any], dataset_uri: str) -> tuple[Manifest, str]:
    """Returns the manifest and its fingerprint, for which every entry must have its type."""
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"The manifest of {dataset_uri} has format_version {version!r}. This version reads {FORMAT_VERSION}."
        )
    try:
        height, width, channels = document["image_shape"]
        manifest = Manifest(
            class_names=check_class_names(document["class_names"], layout.dataset_manifest(dataset_uri)),
            image_shape=(height, width, channels),
            splits={name: _parse_split(split) for name, split in document["splits"].items()},
            source=document["source"],
            source_digest=document["source_digest"],
            metadata=check_types(document.get("metadata", {})),
            encoding=ImageEncoding.from_document(document["encoding"]) if "encoding" in document else None,
        )
        return manifest, manifest.fingerprint
    except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as err:
        raise DatasetError(
            f"The manifest of {dataset_uri} has a missing or invalid entry: {type(err).__name__}: {err}. "
            "Prepare the dataset again."
        ) from err


def _parse_split(split: Mapping[str, Any]) -> Split:
    return Split(
        rows=split["rows"],
        rows_per_class=tuple(split["rows_per_class"]),
        shards=tuple(Shard(**shard) for shard in split["shards"]),
    )
