"""A part of a streamed source in, its shards out: the work of one task, on any machine.

A task is a pure function of its chunk: whoever runs it, and however often, writes the same objects.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.encoding import ImageEncoding, to_stored
from cnnlib.dataset.equal_images import digest_image
from cnnlib.dataset.manifest import Shard
from cnnlib.dataset.metadata import TYPES
from cnnlib.dataset.record import Rows, encode_file_shard, encode_shard
from cnnlib.dataset.streamed import BadImageError, Candidate, StreamedSource, row_id
from cnnlib.errors import CnnlibError, DatasetError
from cnnlib.shapes import ImageShape
from cnnlib.storage import files, layout, publish
from cnnlib.storage.threads import DECODE_THREADS, map_threads
from cnnlib.storage.uri import join_uri

_DIGESTS = 2**256
_PENDING = 64  # images that are read at a time


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """An image that became no row.

    Attributes:
        reason: in a few words; few different ones, so that they can be counted.
    """

    key: str
    label: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class WrittenChunk:
    """What became of a chunk.

    Attributes:
        index: its number.
        shards: its shard of each split that it has rows of.
        rows_per_class: of each split, the rows of every class.
        ids: the ids of its rows, int64 [rows].
        contents: a digest of the content of each, see `digest_image`, uint64 [rows].
        labels: the class of each, int32 [rows].
        bad: the images that became no row.
        digest: the sum of the sha256 of every image's key, label and content, in hex: it does not depend on the order.
    """

    index: int
    shards: Mapping[str, Shard]
    rows_per_class: Mapping[str, Sequence[int]]
    ids: npt.NDArray[np.int64]
    contents: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.int32]
    bad: Sequence[BadRow]
    digest: str

    def to_document(self) -> dict[str, Any]:
        """Returns the chunk as JSON values."""
        return {
            "index": self.index,
            "shards": {name: asdict(shard) for name, shard in self.shards.items()},
            "rows_per_class": dict(self.rows_per_class),
            "ids": self.ids.tolist(),
            "contents": self.contents.tolist(),
            "labels": self.labels.tolist(),
            "bad": [asdict(row) for row in self.bad],
            "digest": self.digest,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> WrittenChunk:
        """Reads what `to_document` returned."""
        return cls(
            index=document["index"],
            shards={name: Shard(**shard) for name, shard in document["shards"].items()},
            rows_per_class=document["rows_per_class"],
            ids=np.array(document["ids"], np.int64),
            contents=np.array(document["contents"], np.uint64),
            labels=np.array(document["labels"], np.int32),
            bad=[BadRow(**row) for row in document["bad"]],
            digest=document["digest"],
        )


@dataclass(frozen=True, kw_only=True)
class ChunkTask:
    """A chunk of a source's candidates, in their order.

    Attributes:
        index: number of the chunk, from 0; the shards bear it.
        source: the source, with the candidates of this chunk alone.
        image_shape: of every image.
        mark_uri: where the result is noted, so that a preparation that is killed goes on here; None: nothing is
            written, and only the digest is computed.
        encoding: how image files are stored; None: pixels are.
    """

    index: int
    source: StreamedSource
    image_shape: ImageShape
    dataset_uri: str
    mark_uri: str | None
    encoding: ImageEncoding | None = None


@dataclass(kw_only=True)
class _SplitRows:
    ids: list[int] = field(default_factory=list)
    contents: list[int] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)  # the pixels of each image, or a file
    labels: list[int] = field(default_factory=list)
    metadata: list[Mapping[str, Any]] = field(default_factory=list)


def run_chunk(data: bytes) -> bytes:
    """Runs a pickled `ChunkTask` and returns the pickled result: a `WrittenChunk`, or the error in its place.

    Errors are values, because Ray Data loses the cause of an exception on the way to the driver.
    """
    task: ChunkTask = pickle.loads(data)
    result: WrittenChunk | CnnlibError
    try:
        result = write_chunk(task)
    except CnnlibError as err:
        result = err
    return pickle.dumps(result, pickle.HIGHEST_PROTOCOL)


def write_chunk(task: ChunkTask) -> WrittenChunk:
    """Reads the images of a chunk and writes its shards; reads only its mark if an earlier attempt has finished it.

    Raises:
        DatasetError: images are of different shapes.
        StorageError: storage failed.
    """
    if task.mark_uri is not None and (done := find_written(task)) is not None:
        return done
    splits: dict[str, _SplitRows] = defaultdict(_SplitRows)
    bad: list[BadRow] = []
    digest = 0
    candidates = task.source.candidates
    for first in range(0, len(candidates), _PENDING):
        some = candidates[first : first + _PENDING]
        read = map_threads(lambda each: _read(task, each), some, threads=DECODE_THREADS)
        for candidate, found in zip(some, read, strict=True):
            digest += _digest(candidate, found)
            if isinstance(found, str):
                bad.append(BadRow(key=candidate.key, label=candidate.label, reason=found))
                continue
            content, image = found
            rows = splits[task.source.split_of(candidate, content)]
            rows.ids.append(row_id(candidate.key))
            rows.contents.append(digest_image(content))
            rows.images.append(image)
            assert candidate.label is not None
            rows.labels.append(candidate.label)
            rows.metadata.append(candidate.metadata)
    in_order = dict(sorted(splits.items()))
    written = WrittenChunk(
        index=task.index,
        shards={name: _write_shard(task, name, rows) for name, rows in in_order.items()},
        rows_per_class={name: _count(task, rows) for name, rows in in_order.items()},
        ids=np.array([row for rows in in_order.values() for row in rows.ids], np.int64),
        contents=np.array([content for rows in in_order.values() for content in rows.contents], np.uint64),
        labels=np.array([label for rows in in_order.values() for label in rows.labels], np.int32),
        bad=bad,
        digest=f"{digest % _DIGESTS:064x}",
    )
    if task.mark_uri is not None:
        files.write_bytes(task.mark_uri, json.dumps(written.to_document()).encode())
    return written


def find_written(task: ChunkTask) -> WrittenChunk | None:
    """Returns what an earlier attempt noted about a chunk, if its shards are still there; None without.

    Only for files whose versions are known: others may have been replaced since.
    """
    assert task.mark_uri is not None
    if not all(candidate.version or candidate.problem for candidate in task.source.candidates):
        return None
    if files.find_size(task.mark_uri) is None:
        return None
    try:
        written = WrittenChunk.from_document(json.loads(files.read_bytes(task.mark_uri)))
    except (ValueError, KeyError, TypeError, OverflowError):  # a damaged mark is as good as none
        return None
    uris = {join_uri(task.dataset_uri, shard.name): shard.bytes for shard in written.shards.values()}
    return written if all(files.find_size(uri) == size for uri, size in uris.items()) else None


def count_reasons(bad: Sequence[BadRow]) -> dict[str, int]:
    """Returns how many images there are of each reason, the most frequent first."""
    return dict(Counter(row.reason for row in bad).most_common())


def _read(task: ChunkTask, candidate: Candidate) -> tuple[bytes, npt.NDArray[np.uint8] | bytes] | str:
    """Returns the content of an image and what is stored of it, its pixels or a file; or why it cannot be used."""
    if candidate.problem:
        return candidate.problem
    try:
        content, pixels = task.source.read(candidate.location or candidate.key)
    except BadImageError as err:
        return str(err)
    if pixels.shape != task.image_shape:
        received, expected = ("x".join(map(str, shape[:2])) for shape in (pixels.shape, task.image_shape))
        raise DatasetError(
            f"The images are of different sizes: {candidate.key} has {received} pixels, others have {expected}. "
            "Give --size, which scales all to one."
        )
    return content, pixels if task.encoding is None else to_stored(content, task.encoding)


def _digest(candidate: Candidate, found: tuple[bytes, object] | str) -> int:
    content = found if isinstance(found, str) else hashlib.sha256(found[0]).hexdigest()
    described = [candidate.key, candidate.label, candidate.split, dict(candidate.metadata), content]
    return int.from_bytes(hashlib.sha256(json.dumps(described).encode()).digest(), "big")


def add_digests(chunks: Sequence[WrittenChunk]) -> str:
    """Returns the digest of several chunks together, 64 hex digits."""
    return f"{sum(int(chunk.digest, 16) for chunk in chunks) % _DIGESTS:064x}"


def _count(task: ChunkTask, rows: _SplitRows) -> list[int]:
    counts = np.bincount(rows.labels, minlength=len(task.source.class_names))
    return list(map(int, counts))


def _write_shard(task: ChunkTask, split: str, rows: _SplitRows) -> Shard:
    data = _encode(task, rows)
    digest = publish.sha256_hex(data)
    name = layout.shard_name(split, task.index, digest)
    if task.mark_uri is not None:
        files.write_bytes(join_uri(task.dataset_uri, name), data)
    return Shard(name=name, rows=len(rows.ids), bytes=len(data), sha256=digest)


def _encode(task: ChunkTask, rows: _SplitRows) -> bytes:
    ids, labels = np.array(rows.ids, np.int64), np.array(rows.labels, np.int32)
    metadata = {
        name: pa.array([row.get(name) for row in rows.metadata], TYPES[kind])
        for name, kind in task.source.metadata.items()
    }
    if task.encoding is None:
        return encode_shard(Rows(ids=ids, images=np.stack(rows.images), labels=labels, metadata=metadata))
    return encode_file_shard(
        ids, labels, rows.images, metadata, image_shape=task.image_shape, encoding=task.encoding
    )
