"""What a data set consists of: the manifest, the only thing a reader believes.

Written last, so that half a data set does not exist. A row's position is its place in the concatenation of its
split's shards in manifest order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnlib.dataset.metadata import check_types
from cnnlib.errors import DatasetError, NotFoundError, nearest
from cnnlib.shapes import ImageShape
from cnnlib.storage import files, layout, publish
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import join_uri

FORMAT_VERSION = 1
PREFLIGHT_DIGEST_BYTES = 256 * 2**20
"""Splits up to this size have every digest checked before a job starts; bigger ones have sizes checked, and
each digest when its shard is read."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Parquet file of a split: its name below the data set, rows, bytes and sha256 (hex)."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Split:
    """The shards of one split, in order; rows_per_class[i] counts class i."""

    rows: int
    rows_per_class: tuple[int, ...]
    shards: tuple[Shard, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class ShardRange:
    """Rows [start, stop) of one shard."""

    shard_index: int
    shard: Shard
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A data set: what its images and classes are, and every shard of every split.

    Attributes:
        image_shape: height, width, channels.
        source: where the rows came from, in words.
        source_digest: sha256 (hex) of the rows as they came, before they were sharded.
        metadata: name and type (bool, int64, float64, string) of the columns that the shards hold beside id, image and
            label; stored only where there are any, so that a data set without has the manifest that it always had.
    """

    class_names: tuple[str, ...]
    image_shape: ImageShape
    splits: Mapping[str, Split]
    source: str
    source_digest: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over all of the manifest but `source`: the data set's identity, wherever it lies."""
        content = {key: value for key, value in self._content().items() if key != "source"}
        return publish.sha256_hex(publish.canonical_json(content))

    def split(self, name: str) -> Split:
        """Returns a split.

        Raises:
            DatasetError: there is none of that name.
        """
        if name not in self.splits:
            raise DatasetError(f"The data set has no split {name!r}. {nearest(name, self.splits)}")
        return self.splits[name]

    def to_json(self) -> dict[str, Any]:
        """The manifest as it is stored."""
        return {**self._content(), "fingerprint": self.fingerprint}

    def _content(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "class_names": list(self.class_names),
            "image_shape": list(self.image_shape),
            "splits": {name: dataclasses.asdict(split) for name, split in self.splits.items()},
            "source": self.source,
            "source_digest": self.source_digest,
            **({"metadata": dict(self.metadata)} if self.metadata else {}),
        }


def load_manifest(dataset_uri: str) -> Manifest:
    """Reads and checks a data set's manifest.

    Raises:
        DatasetError: there is no manifest, or it is not one this version reads.
        AccessError: storage refuses.
    """
    try:
        document = publish.read_manifest(layout.dataset_manifest(dataset_uri))
    except NotFoundError as err:
        raise DatasetError(
            f"No data set at {dataset_uri}: it has no {layout.MANIFEST}. "
            f"Make one: python -m jobs.prepare fashion-mnist --output {dataset_uri}"
        ) from err
    manifest = _parse(document, dataset_uri)
    if manifest.fingerprint != document.get("fingerprint"):
        raise DatasetError(
            f"The manifest of {dataset_uri} was changed after it was written: its fingerprint is "
            f"{document.get('fingerprint')}, its content has {manifest.fingerprint}. Prepare the data set again."
        )
    return manifest


def check_shards(dataset_uri: str, manifest: Manifest, split_name: str) -> None:
    """Checks that the shards of a split are there and whole, as far as that is cheap.

    Sizes always, sha256 too where the split is at most `PREFLIGHT_DIGEST_BYTES`.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """
    split = manifest.split(split_name)
    check = _check_digest if split.num_bytes <= PREFLIGHT_DIGEST_BYTES else _check_size
    map_threads(lambda shard: check(dataset_uri, shard), split.shards, threads=8)


def read_shard(dataset_uri: str, shard: Shard) -> bytes:
    """Reads one shard's bytes and checks them against the manifest.

    Raises:
        DatasetError: the shard is missing or its bytes do not match.
    """
    try:
        data = files.read_bytes(join_uri(dataset_uri, shard.name))
    except NotFoundError as err:
        raise DatasetError(
            f"{dataset_uri}: the shard {shard.name} is in the manifest but not in storage."
        ) from err
    digest = publish.sha256_hex(data)
    if digest != shard.sha256:
        raise DatasetError(
            f"{dataset_uri}: the bytes of {shard.name} do not match the manifest. Received {len(data)} bytes with "
            f"sha256 {digest[:12]}…, expected {shard.bytes} bytes with {shard.sha256[:12]}…. "
            "Prepare the data set again."
        )
    return data


def shard_ranges(shards: Sequence[Shard], start: int, stop: int) -> Iterator[ShardRange]:
    """The parts of shards that hold the row positions [start, stop), in order."""
    first = 0
    for index, shard in enumerate(shards):
        low, high = max(start - first, 0), min(stop - first, shard.rows)
        if low < high:
            yield ShardRange(shard_index=index, shard=shard, start=low, stop=high)
        first += shard.rows


def _check_digest(dataset_uri: str, shard: Shard) -> None:
    read_shard(dataset_uri, shard)


def _check_size(dataset_uri: str, shard: Shard) -> None:
    size = files.find_size(join_uri(dataset_uri, shard.name))
    if size != shard.bytes:
        raise DatasetError(
            f"{dataset_uri}: {shard.name} does not match the manifest. "
            f"Received {'nothing' if size is None else f'{size} bytes'}, expected {shard.bytes} bytes."
        )


def _parse(document: Mapping[str, Any], dataset_uri: str) -> Manifest:
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"The manifest of {dataset_uri} has format_version {version!r}. This version reads {FORMAT_VERSION}."
        )
    try:
        height, width, channels = document["image_shape"]
        return Manifest(
            class_names=tuple(document["class_names"]),
            image_shape=(height, width, channels),
            splits={name: _parse_split(split) for name, split in document["splits"].items()},
            source=document["source"],
            source_digest=document["source_digest"],
            metadata=check_types(document.get("metadata", {})),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise DatasetError(
            f"The manifest of {dataset_uri} is not whole: {type(err).__name__}: {err}."
        ) from err


def _parse_split(split: Mapping[str, Any]) -> Split:
    return Split(
        rows=split["rows"],
        rows_per_class=tuple(split["rows_per_class"]),
        shards=tuple(Shard(**shard) for shard in split["shards"]),
    )
