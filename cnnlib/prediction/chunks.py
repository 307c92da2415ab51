"""The images to predict, in chunks: files of a folder or a pattern, or the shards of a data set."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.decode import EXTENSIONS, ImageRules
from cnnlib.dataset.manifest import Manifest, load_manifest, whole_shard
from cnnlib.dataset.reader import check_shards, read_range
from cnnlib.dataset.streamed import BadImageError
from cnnlib.errors import ConfigError, NotFoundError
from cnnlib.sources.image_files import ImageReader
from cnnlib.storage import files, layout
from cnnlib.storage.threads import DECODE_THREADS, map_threads
from cnnlib.storage.uri import join_uri

_CHUNK_IMAGES = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadImages:
    """The images of a chunk.

    Attributes:
        paths: of files, below their folder; None for the rows of a data set.
        ids: of rows; None for files.
        images: uint8 [readable, height, width, channels].
        problems: for each image, why it cannot be read; empty for those that can.
    """

    paths: Sequence[str] | None
    ids: Sequence[int] | None
    images: npt.NDArray[np.uint8]
    problems: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class FileChunk:
    """Some image files.

    Attributes:
        keys: paths below the reader's folder.
        versions: of each file, a text that changes when it is replaced.
    """

    reader: ImageReader
    keys: tuple[str, ...]
    versions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def identity(self) -> Any:
        """Returns what the predictions depend on, as a value whose repr tells it from others."""
        return self.keys, self.versions

    def read(self) -> ReadImages:
        """Reads and decodes the images.

        Raises:
            StorageError: storage failed.
        """
        found = map_threads(self._read_one, self.keys, threads=DECODE_THREADS)
        height, width = self.reader.rules.size or (0, 0)
        images = [each for each in found if not isinstance(each, str)]
        shape = (0, height, width, self.reader.rules.channels)
        return ReadImages(
            paths=self.keys,
            ids=None,
            images=np.stack(images) if images else np.zeros(shape, np.uint8),
            problems=[each if isinstance(each, str) else "" for each in found],
        )

    def _read_one(self, key: str) -> npt.NDArray[np.uint8] | str:
        try:
            return self.reader(key)[1]
        except BadImageError as err:
            return str(err)


@dataclass(frozen=True, kw_only=True)
class ShardChunk:
    """The rows of one shard of a data set."""

    dataset_uri: str
    manifest: Manifest
    split: str
    index: int

    def __len__(self) -> int:
        return self.manifest.split(self.split).shards[self.index].rows

    def identity(self) -> Any:
        """Returns what the predictions depend on, as a value whose repr tells it from others."""
        return self.manifest.fingerprint, self.split, self.index

    def read(self) -> ReadImages:
        """Reads the rows.

        Raises:
            DatasetError: the shard's bytes are not those of the manifest.
            StorageError: storage failed.
        """
        shard = self.manifest.split(self.split).shards[self.index]
        rows = read_range(self.dataset_uri, self.manifest, whole_shard(self.index, shard))
        return ReadImages(paths=None, ids=rows.ids.tolist(), images=rows.images, problems=[""] * len(rows))


Chunk = FileChunk | ShardChunk


def find_manifest(images_uri: str) -> Manifest | None:
    """Returns the manifest of a data set; None for a folder or a pattern of image files."""
    if any(mark in images_uri for mark in "*?["):
        return None
    try:
        if files.find_size(layout.dataset_manifest(images_uri)) is None:
            return None
    except ConfigError:
        return None
    return load_manifest(images_uri)


def list_shards(dataset_uri: str, manifest: Manifest, split: str) -> list[Chunk]:
    """Returns the chunks of a split."""
    check_shards(dataset_uri, manifest, split)
    shards = range(len(manifest.split(split).shards))
    return [
        ShardChunk(dataset_uri=dataset_uri, manifest=manifest, split=split, index=index) for index in shards
    ]


def list_files(images_uri: str, rules: ImageRules) -> list[Chunk]:
    """Lists the image files of a folder, at any depth, or of a pattern such as `DIR/2026-*.jpg`, sorted by path.

    Raises:
        NotFoundError: there is no image.
    """
    has_pattern = any(mark in images_uri for mark in "*?[")
    folder = re.split(r"[*?\[]", images_uri, maxsplit=1)[0].rpartition("/")[0] if has_pattern else images_uri
    base = join_uri(folder, "")
    found = sorted(
        (each.uri.removeprefix(base), f"{each.num_bytes} {each.version}")
        for each in files.list_objects(folder)
        if (not has_pattern or fnmatch.fnmatchcase(each.uri, images_uri))
        and f".{each.uri.rpartition('.')[2].lower()}" in EXTENSIONS
        and not any(part.startswith(".") for part in each.uri.removeprefix(base).split("/"))
    )
    if not found:
        raise NotFoundError(
            f"No image at {images_uri}. Expected a dataset of jobs.prepare, or a folder or a pattern of files that end "
            f"in {', '.join(sorted(EXTENSIONS))}."
        )
    reader = ImageReader(folder=folder, rules=rules)
    parts = [found[first : first + _CHUNK_IMAGES] for first in range(0, len(found), _CHUNK_IMAGES)]
    return [
        FileChunk(
            reader=reader, keys=tuple(key for key, _ in part), versions=tuple(version for _, version in part)
        )
        for part in parts
    ]
