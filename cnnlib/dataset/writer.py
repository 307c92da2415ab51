"""Source in, data set out: threads write the shards in parallel, the manifest comes last.

Threads, because a source's rows are in this process's memory, and compressing, hashing and uploading them let other
threads run. A Ray cluster took 9 s to start for what takes less than one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from cnnlib.dataset.manifest import Manifest, Shard, Split, load_manifest
from cnnlib.dataset.record import encode_shard
from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.errors import ConflictError, DatasetError
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri

_MIN_SHARD_BYTES = 4 * 2**20
_MAX_SHARD_BYTES = 16 * 2**20  # a training worker that streams has 16 or more of them open
_TARGET_SHARDS = 16
_WRITERS = max(4, os.cpu_count() or 1)  # more than cores where there are few: they also wait for storage


class PreparedDataset(NamedTuple):
    """A data set and whether this call wrote it (or found it there already)."""

    manifest: Manifest
    created: bool


def write_dataset(source: Source, dataset_uri: str, shard_bytes: int | None = None) -> PreparedDataset:
    """Writes a source as a data set: shards, then the preview, then the manifest.

    A crash before the manifest leaves shards that nobody reads; the next call writes them again.

    Args:
        shard_bytes: pixels per shard; None: a sixteenth of the split, within 4..16 MiB.

    Raises:
        ConflictError: another data set, or something else, is already there.
        DatasetError: a split without rows, or metadata that a shard cannot hold.
    """
    metadata = source.metadata
    existing = _find_existing(source, dataset_uri)
    if existing is not None:
        return PreparedDataset(existing, created=False)
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="write-shard") as pool:
        digest = pool.submit(lambda: source.digest)
        written = _write_splits(source, dataset_uri, shard_bytes, pool)
        preview = _preview(source)  # drawn while the shards are written
        splits = {name: _describe_split(source, name, shards) for name, shards in written().items()}
        manifest = Manifest(
            class_names=source.class_names,
            image_shape=source.image_shape,
            splits=splits,
            source=source.description,
            source_digest=digest.result(),
            metadata=metadata,
        )
    files.write_bytes(layout.dataset_preview(dataset_uri), preview)
    if not publish.write_manifest(layout.dataset_manifest(dataset_uri), manifest.to_json()):
        raise ConflictError(
            f"Another job wrote a data set to {dataset_uri} in the meantime. Nothing of it was changed."
        )
    return PreparedDataset(manifest, created=True)


def check_output(source: Source, dataset_uri: str) -> bool:
    """Checks, before anything is written, that the data set can be written; True if it is there already.

    Raises:
        ConflictError: another data set, or something else, is already there.
        AccessError: the output cannot be written.
    """
    if _find_existing(source, dataset_uri) is not None:
        return True
    files.check_writable(dataset_uri)
    return False


def _find_existing(source: Source, dataset_uri: str) -> Manifest | None:
    if files.find_size(layout.dataset_manifest(dataset_uri)) is None:
        _check_only_ours(dataset_uri, source)
        return None
    manifest = load_manifest(dataset_uri)
    if manifest.source_digest != source.digest:
        raise ConflictError(
            f"{dataset_uri} already holds another data set ({manifest.source}). Received {source.description}. "
            "Choose another --output, or delete that one first."
        )
    return manifest


def _check_only_ours(dataset_uri: str, source: Source) -> None:
    expected = tuple(f"{join_uri(dataset_uri, split)}/part-" for split in source.splits)
    strangers = [
        each.uri
        for each in files.list_objects(dataset_uri)
        if not each.uri.startswith(expected) and each.uri != layout.dataset_preview(dataset_uri)
    ]
    if strangers:
        raise ConflictError(
            f"{dataset_uri} already holds something else: {strangers[0]}"
            f"{f' and {len(strangers) - 1} more' if strangers[1:] else ''}. Choose an empty --output."
        )


def _write_splits(
    source: Source, dataset_uri: str, shard_bytes: int | None, pool: ThreadPoolExecutor
) -> Callable[[], dict[str, list[Shard]]]:
    """Begins to write the shards of all splits; what it returns waits for them."""
    plans = {name: _plan_split(source, name, shard_bytes) for name in source.splits}
    writing = {
        name: [pool.submit(_write_shard, source.splits[name], dataset_uri, item) for item in plan]
        for name, plan in plans.items()
    }
    return lambda: {name: [each.result() for each in shards] for name, shards in writing.items()}


class _PlannedShard(NamedTuple):
    """A shard's name, and which rows it will have."""

    name: str
    start: int
    stop: int


def _plan_split(source: Source, name: str, shard_bytes: int | None) -> list[_PlannedShard]:
    num_rows = len(source.splits[name])
    if not num_rows:
        raise DatasetError(f"The split {name!r} of {source.description} has no rows.")
    shard_rows = _rows_per_shard(num_rows, math.prod(source.image_shape), shard_bytes)
    return [
        _PlannedShard(layout.shard_name(name, index), start, min(start + shard_rows, num_rows))
        for index, start in enumerate(range(0, num_rows, shard_rows))
    ]


def _describe_split(source: Source, name: str, shards: list[Shard]) -> Split:
    counts = np.bincount(source.splits[name].labels, minlength=len(source.class_names))
    return Split(
        rows=len(source.splits[name]),
        rows_per_class=tuple(map(int, counts)),
        shards=tuple(shards),
    )


def _write_shard(split: SourceSplit, dataset_uri: str, planned: _PlannedShard) -> Shard:
    data = encode_shard(split.read(planned.start, planned.stop))
    files.write_bytes(join_uri(dataset_uri, planned.name), data)
    return Shard(
        name=planned.name,
        rows=planned.stop - planned.start,
        bytes=len(data),
        sha256=publish.sha256_hex(data),
    )


def _rows_per_shard(num_rows: int, row_bytes: int, shard_bytes: int | None) -> int:
    total = num_rows * row_bytes
    target = shard_bytes or min(max(total // _TARGET_SHARDS, _MIN_SHARD_BYTES), _MAX_SHARD_BYTES)
    # Equal shards, rather than full ones and a rest.
    return math.ceil(num_rows / math.ceil(total / target))


def _preview(source: Source) -> bytes:
    from cnnlib.dataset.preview import PREVIEW_ROWS, preview_png  # it draws: the tasks can do without

    split = next(iter(source.splits.values()))
    rows = split.read(0, min(PREVIEW_ROWS, len(split)))
    # A picture is grey or RGB: of two channels the first, of four or more the first three.
    channels = 3 if source.image_shape[2] >= 3 else 1
    return preview_png(rows.images[..., :channels], rows.labels, source.class_names)
