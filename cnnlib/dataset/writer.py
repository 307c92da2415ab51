"""Writes a source as a dataset: shards, then the manifest, then a preview.

A shard is named after its bytes and the manifest is put if absent, so of several jobs that write to one folder at the
same time exactly one publishes its dataset, and none changes a shard that another one wrote.

Threads write the shards in parallel. The rows of a source are in the memory of this process, and compression, hashing
and uploads release the GIL. No Ray cluster is used, because it took 9 s to start for less than 1 s of work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from cnnlib.cores import num_cores
from cnnlib.dataset.class_rows import check_class_rows
from cnnlib.dataset.equal_images import Occurrences, digest_image, log_equal_images
from cnnlib.dataset.manifest import Manifest, Shard, Split, load_manifest
from cnnlib.dataset.reader import read_shard
from cnnlib.dataset.record import encode_shard
from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.errors import AccessError, ConflictError, DatasetError, StorageError
from cnnlib.log import log_event
from cnnlib.storage import files, layout, publish
from cnnlib.storage.threads import map_threads, thread_pool
from cnnlib.storage.uri import join_uri

_MIN_SHARD_BYTES = 4 * 2**20
_MAX_SHARD_BYTES = 16 * 2**20  # a worker that streams its rows may hold 16 or more of them in memory
_TARGET_SHARDS = 16
_WRITERS = max(4, num_cores())  # may be more than the cores, because writers also wait for storage


class PreparedDataset(NamedTuple):
    """Holds the manifest of a dataset that is stored.

    Attributes:
        created: whether this call wrote the dataset; False if the same dataset was there before.
    """

    manifest: Manifest
    created: bool


def write_dataset(source: Source, dataset_uri: str, shard_bytes: int | None = None) -> PreparedDataset:
    """Writes a source as a dataset: shards, then the manifest, then the preview.

    A crash before the manifest leaves shards that no reader finds, and that the next call for the same source uses. A
    crash after it leaves a dataset without a preview. If another call publishes a dataset meanwhile, this one deletes
    its own shards, except those that are that dataset's, too.

    Args:
        shard_bytes: bytes of pixels in one shard; None: a sixteenth of the split, within 4..16 MiB.

    Raises:
        AccessError: storage denies writing.
        ConflictError: the output already holds another dataset or other files.
        DatasetError: a split has no rows or no class of the training split, all rows are of one class, or a shard
            cannot hold the metadata.
    """
    metadata = source.metadata  # checked before anything is written
    existing = check_output(source, dataset_uri)
    if existing is not None and not say_lost(dataset_uri, existing):
        return PreparedDataset(existing, created=False)
    counts = {name: _count_rows(source, split) for name, split in source.splits.items()}
    check_class_rows(counts, source.class_names, source.description)
    with thread_pool(_WRITERS, "write-shard") as pool:
        digest = pool.submit(lambda: source.digest)
        equal_images = pool.submit(_find_occurrences, source)
        wait_for_shards = _write_splits(source, dataset_uri, shard_bytes, pool)
        preview = _draw_preview(source)  # while the threads write the shards
        splits = {name: _describe_split(source, name, shards) for name, shards in wait_for_shards().items()}
        manifest = Manifest(
            class_names=source.class_names,
            image_shape=source.image_shape,
            splits=splits,
            source=source.description,
            source_digest=digest.result(),
            metadata=metadata,
        )
    _say_equal_images(source, equal_images.result())
    _say_black_images(source)
    try:
        created = publish.write_manifest(layout.dataset_manifest(dataset_uri), manifest.to_json())
    except ConflictError:
        # Another job was faster. With the same source it may still have made other shards, such as larger ones.
        _delete_own_shards(dataset_uri, manifest, kept=load_manifest(dataset_uri))
        stored = check_same(dataset_uri, source.digest, source.description)
        check_complete(dataset_uri, stored)
        return PreparedDataset(stored, created=False)
    # Only now: the preview is of the dataset that was published.
    write_preview(dataset_uri, preview)
    return PreparedDataset(manifest, created or existing is not None)


def write_preview(dataset_uri: str, preview: bytes) -> None:
    """Writes the preview of a dataset that is published. Says so if it cannot: nobody needs it to train."""
    try:
        files.write_bytes(layout.dataset_preview(dataset_uri), preview)
    except (AccessError, StorageError) as err:
        log_event("preview", note=f"not written, and the dataset is complete: {err}")


def _find_occurrences(source: Source) -> Occurrences:
    parts = list(source.splits.values())
    contents = [digest_image(np.ascontiguousarray(image).data) for split in parts for image in split.images]
    return Occurrences(
        contents=np.array(contents, np.uint64),
        labels=np.concatenate([split.labels for split in parts]),
        splits=np.repeat(np.arange(len(parts), dtype=np.int32), [len(split) for split in parts]),
    )


def _say_equal_images(source: Source, found: Occurrences) -> None:
    names = list(source.splits)
    firsts = np.cumsum([0, *(len(split) for split in source.splits.values())])

    def describe(row: int) -> str:
        split = found.splits[row]
        return f"{names[split]} {row - firsts[split]} ({source.class_names[found.labels[row]]})"

    log_equal_images(found, names, describe)


def _say_black_images(source: Source) -> None:
    """Says that no pixel is above 1: most likely, images of 0..1 lost their fractions when they became uint8."""
    if all(split.images.max(initial=0) <= 1 for split in source.splits.values()):
        log_event(
            "dataset",
            note="all images are nearly black: no pixel is above 1. Pixels are 0..255; multiply 0..1 by 255",
        )


def check_output(source: Source, dataset_uri: str) -> Manifest | None:
    """Checks that the dataset can be written, without writing it; returns its manifest if it is already there.

    Raises:
        ConflictError: the output already holds another dataset or other files.
        AccessError: storage denies writing.
    """
    if files.find_size(layout.dataset_manifest(dataset_uri)) is not None:
        return check_same(dataset_uri, source.digest, source.description)
    check_no_other_files(dataset_uri, lambda uri: _is_ours(source, dataset_uri, uri))
    files.check_writable(dataset_uri)
    return None


def check_same(dataset_uri: str, source_digest: str, description: str) -> Manifest:
    """Returns the manifest of the published dataset.

    Args:
        source_digest, description: of the source that it must come from.

    Raises:
        ConflictError: it is the dataset of another source.
    """
    manifest = load_manifest(dataset_uri)
    if manifest.source_digest != source_digest:
        changed = " with other images, labels, splits or names" if manifest.source == description else ""
        raise ConflictError(
            f"{dataset_uri} already holds another dataset ({manifest.source}). Received {description}{changed}. "
            "Choose another --output, or delete that dataset first."
        )
    return manifest


def find_lost(dataset_uri: str, manifest: Manifest) -> list[str]:
    """Returns the names of the shards that are missing, or whose bytes are not those that the manifest states."""
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    are_whole = map_threads(lambda shard: _is_whole(dataset_uri, shard), shards, threads=_WRITERS)
    return [shard.name for shard, is_whole in zip(shards, are_whole, strict=True) if not is_whole]


def _is_whole(dataset_uri: str, shard: Shard) -> bool:
    try:
        read_shard(dataset_uri, shard)
    except DatasetError:
        return False
    return True


def say_lost(dataset_uri: str, manifest: Manifest) -> bool:
    """Returns whether shards of a published dataset have to be written again; logs how many."""
    lost = find_lost(dataset_uri, manifest)
    if lost:
        log_event("shards", note=f"missing or damaged, and written again: {len(lost)}, such as {lost[0]}")
    return bool(lost)


def check_complete(dataset_uri: str, manifest: Manifest) -> None:
    """Checks that no shard of a published dataset is missing or damaged.

    Raises:
        DatasetError: one is.
    """
    if lost := find_lost(dataset_uri, manifest):
        raise DatasetError(
            f"{dataset_uri}: {len(lost)} shards that its manifest states are missing or damaged, such as "
            f"{lost[0]}. Delete the manifest, and prepare the dataset again."
        )


def check_no_other_files(dataset_uri: str, is_ours: Callable[[str], bool]) -> None:
    """Checks that a folder holds nothing but what preparations of this dataset write.

    Args:
        is_ours: returns whether an object, by its URI, may come from one of them.

    Raises:
        ConflictError: it holds something else.
    """
    others = [each.uri for each in files.list_objects(dataset_uri) if not is_ours(each.uri)]
    if others:
        raise ConflictError(
            f"{dataset_uri} already holds something else: {others[0]}"
            f"{f' and {len(others) - 1} more' if others[1:] else ''}. Choose an empty --output."
        )


def _is_ours(source: Source, dataset_uri: str, uri: str) -> bool:
    """Returns whether an object may come from a call that was interrupted, or from one that runs at the same time."""
    if uri in (layout.dataset_manifest(dataset_uri), layout.dataset_preview(dataset_uri)):
        return True
    name = uri.removeprefix(join_uri(dataset_uri, ""))
    return layout.is_shard(name) and name.split("/")[0] in source.splits


def _write_splits(
    source: Source, dataset_uri: str, shard_bytes: int | None, pool: ThreadPoolExecutor
) -> Callable[[], dict[str, list[Shard]]]:
    """Starts to write the shards of all splits; returns a function that waits for them."""
    plans = {name: _plan_split(source, name, shard_bytes) for name in source.splits}
    writing = {
        name: [pool.submit(_write_shard, source.splits[name], dataset_uri, item) for item in plan]
        for name, plan in plans.items()
    }
    return lambda: {name: [each.result() for each in shards] for name, shards in writing.items()}


def _delete_own_shards(dataset_uri: str, own: Manifest, kept: Manifest) -> None:
    names = {shard.name for split in own.splits.values() for shard in split.shards}
    names -= {shard.name for split in kept.splits.values() for shard in split.shards}
    map_threads(lambda name: files.delete(join_uri(dataset_uri, name)), sorted(names))


class _PlannedShard(NamedTuple):
    """Holds a shard's split and its number in it, and the positions [start, stop) of its rows."""

    split: str
    number: int
    start: int
    stop: int


def _plan_split(source: Source, name: str, shard_bytes: int | None) -> list[_PlannedShard]:
    num_rows = len(source.splits[name])
    if not num_rows:
        raise DatasetError(f"The split {name!r} of {source.description} has no rows.")
    shard_rows = rows_per_shard(num_rows, math.prod(source.image_shape), shard_bytes)
    return [
        _PlannedShard(name, index, start, min(start + shard_rows, num_rows))
        for index, start in enumerate(range(0, num_rows, shard_rows))
    ]


def _describe_split(source: Source, name: str, shards: list[Shard]) -> Split:
    split = source.splits[name]
    return Split(rows=len(split), rows_per_class=_count_rows(source, split), shards=tuple(shards))


def _count_rows(source: Source, split: SourceSplit) -> tuple[int, ...]:
    return tuple(np.bincount(split.labels, minlength=len(source.class_names)).tolist())


def _write_shard(split: SourceSplit, dataset_uri: str, planned: _PlannedShard) -> Shard:
    data = encode_shard(split.read(planned.start, planned.stop))
    digest = publish.sha256_hex(data)
    name = layout.shard_name(planned.split, planned.number, digest)
    files.write_bytes(join_uri(dataset_uri, name), data)
    return Shard(name=name, rows=planned.stop - planned.start, bytes=len(data), sha256=digest)


def rows_per_shard(num_rows: int, row_bytes: int, shard_bytes: int | None) -> int:
    """Returns how many rows a shard has.

    Args:
        row_bytes: bytes of the pixels of a row.
        shard_bytes: bytes of pixels in one shard; None: a sixteenth of all, within 4..16 MiB.
    """
    total_bytes = num_rows * row_bytes
    target_bytes = shard_bytes or min(max(total_bytes // _TARGET_SHARDS, _MIN_SHARD_BYTES), _MAX_SHARD_BYTES)
    # Shards of equal size, not full ones and a small last one.
    return math.ceil(num_rows / math.ceil(total_bytes / target_bytes))


def _draw_preview(source: Source) -> bytes:
    # Imported here, because only this function needs Pillow.
    from cnnlib.dataset.preview import PREVIEW_CHOICE, preview_png

    split = next(iter(source.splits.values()))
    rows = split.read(0, min(PREVIEW_CHOICE, len(split)))
    # A picture is grey or RGB: the first channel of two is shown, the first three of four or more.
    channels = 3 if source.image_shape[2] >= 3 else 1
    return preview_png(rows.images[..., :channels], rows.labels, source.class_names)
