"""The images to predict, in chunks: files of a folder or a pattern, or the shards of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.decode import EXTENSIONS, ImageRules
from cnnlib.dataset.manifest import Manifest, ShardRange, load_manifest
from cnnlib.dataset.reader import check_shards, read_range
from cnnlib.dataset.streamed import BadImageError
from cnnlib.errors import AccessError, InputError, NotFoundError
from cnnlib.sources.image_files import ImageReader, counted, select_images
from cnnlib.storage import files, layout
from cnnlib.storage.patterns import Found, find_objects
from cnnlib.storage.threads import DECODE_THREADS, map_threads

_CHUNK_IMAGES = 512
_CHUNK_BYTES = 128 * 2**20
"""The pixels of a chunk of files, as uint8: 512 images of up to 295x295x3, 42 of 1024x1024x3."""
_OUTPUT_BYTES = 256 * 2**20
"""The probabilities of a chunk, as float32: 3,355 rows of 20,000 classes."""


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
        keys: paths below the reader's folder; what is no UTF-8 in them is escaped as Python does it.
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
            paths=[key.encode(errors="backslashreplace").decode() for key in self.keys],
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
    """Some rows of one shard of a data set."""

    dataset_uri: str
    manifest: Manifest
    split: str
    rows: ShardRange

    def __len__(self) -> int:
        return self.rows.rows

    def identity(self) -> Any:
        """Returns what the predictions depend on, as a value whose repr tells it from others."""
        return self.manifest.fingerprint, self.split, self.rows.shard_index, self.rows.start, self.rows.stop

    def read(self) -> ReadImages:
        """Reads the rows.

        Raises:
            DatasetError: the shard's bytes are not those of the manifest.
            StorageError: storage failed.
        """
        rows = read_range(self.dataset_uri, self.manifest, self.rows)
        return ReadImages(paths=None, ids=rows.ids.tolist(), images=rows.images, problems=[""] * len(rows))


Chunk = FileChunk | ShardChunk


def find_manifest(images_uri: str) -> Manifest | None:
    """Returns the manifest of a data set; None for a folder or a pattern of image files."""
    try:
        if files.find_size(layout.dataset_manifest(images_uri)) is None:
            return None
    except AccessError:
        raise
    except InputError:  # the path of a file, or a pattern that is no path
        return None
    return load_manifest(images_uri)


def list_shards(dataset_uri: str, manifest: Manifest, split: str, num_classes: int) -> list[Chunk]:
    """Returns the chunks of a split: its shards, in pieces where the probabilities of one would take much memory."""
    check_shards(dataset_uri, manifest, split)
    most = _most_rows(num_classes)
    return [
        ShardChunk(
            dataset_uri=dataset_uri,
            manifest=manifest,
            split=split,
            rows=ShardRange(shard_index=index, shard=shard, start=start, stop=min(start + most, shard.rows)),
        )
        for index, shard in enumerate(manifest.split(split).shards)
        for start in range(0, shard.rows, most)
    ]


def _most_rows(num_classes: int) -> int:
    return max(1, _OUTPUT_BYTES // (4 * num_classes))


def list_files(images_uri: str, rules: ImageRules, num_classes: int) -> list[Chunk]:
    """Lists the image files of a folder, at any depth, or of a pattern such as `DIR/2026-*.jpg`, sorted by path.

    A single file will do. See `find_objects` for what a pattern means. Logs how many files are left out, by their kind.

    Raises:
        NotFoundError: there is no image.
    """
    below = _find_below(images_uri)
    versions = {below.relative(each): f"{each.num_bytes} {each.version}" for each in below.objects}
    images, skipped = select_images(versions)
    found = sorted((path, versions[path]) for path in images)
    if not found:
        raise NotFoundError(
            f"No image at {images_uri}. Expected a dataset of jobs.prepare, or a folder or a pattern of files that end "
            f"in {', '.join(sorted(EXTENSIONS))}. Received {counted(skipped) or 'no file'}."
        )
    reader = ImageReader(folder=below.folder, rules=rules)
    height, width = rules.size or (1, 1)
    most = max(1, _CHUNK_BYTES // (height * width * rules.channels))
    step = min(_CHUNK_IMAGES, most, _most_rows(num_classes))
    parts = [found[first : first + step] for first in range(0, len(found), step)]
    return [
        FileChunk(
            reader=reader, keys=tuple(key for key, _ in part), versions=tuple(version for _, version in part)
        )
        for part in parts
    ]


def _find_below(images_uri: str) -> Found:
    try:
        single = files.find_object(images_uri)
    except AccessError:
        raise
    except InputError:
        single = None
    if single is None:
        return find_objects(images_uri)
    return Found(folder=single.uri.rpartition("/")[0], objects=(single,), is_pattern=False, num_listed=1)
