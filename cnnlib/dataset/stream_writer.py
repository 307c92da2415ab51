"""Writes a streamed source as a dataset: chunks in parallel, then the quarantine, the manifest and the preview.

The candidates are shuffled once, by a hash of the seed and their key, so that any range of rows is a fair sample
whatever the order of the source. A chunk of them is the work of one task. A task notes what it has finished, so a
preparation that is killed goes on where it was. Objects bear the digest of their bytes and the manifest is put if
absent, so several preparations may write to one folder at the same time.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import pyarrow as pa

from cnnlib.dataset.chunks import BadRow, ChunkTask, WrittenChunk, add_digests, count_reasons, run_chunk
from cnnlib.dataset.class_rows import check_class_rows
from cnnlib.dataset.encoding import ImageEncoding
from cnnlib.dataset.equal_images import Occurrences, log_equal_images
from cnnlib.dataset.manifest import Manifest, Split, load_manifest, whole_shard
from cnnlib.dataset.progress import build_progress
from cnnlib.dataset.reader import read_range
from cnnlib.dataset.streamed import BadImageError, Candidate, Candidates, StreamedSource, encode_text, row_id
from cnnlib.dataset.writer import (
    PreparedDataset,
    check_complete,
    check_no_other_files,
    check_same,
    rows_per_shard,
    say_lost,
    write_preview,
)
from cnnlib.errors import CnnlibError, ConflictError, DatasetError
from cnnlib.log import log_event
from cnnlib.shapes import ImageShape
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes
from cnnlib.storage.threads import map_threads, thread_pool
from cnnlib.storage.uri import join_uri

SEED = 0
_TASKS_AT_A_TIME = 2
_SHOWN = 5

RunTasks = Callable[[Sequence[bytes]], Iterable[bytes]]
"""Runs `run_chunk` for every task, in any order; yields the results as they come."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a streamed source is written.

    Attributes:
        max_bad: the fraction of images, 0..1, that may become no row.
        shard_bytes: bytes of pixels in one shard; None: a sixteenth of all, within 4..16 MiB.
        encoding: how image files are stored; None: pixels are stored.
    """

    max_bad: float = 0.01
    shard_bytes: int | None = None
    encoding: ImageEncoding | None = None


def write_streamed(
    source: StreamedSource,
    dataset_uri: str,
    options: StreamOptions,
    run_tasks: RunTasks,
    *,
    live: bool = False,
) -> PreparedDataset:
    """Writes a streamed source as a dataset.

    Args:
        run_tasks: runs the tasks, on this machine or on a cluster.
        live: True if a person watches stderr on a terminal.

    Raises:
        ConflictError: the output already holds another dataset or other files.
        DatasetError: too many images cannot be used, they are of different sizes, two have the same key, a split or
            all classes but one have no rows, or a split has no class of the training split.
    """
    try:
        return _write(source, dataset_uri, options, run_tasks, live=live)
    finally:
        map_threads(files.delete, source.copies)


def _write(
    source: StreamedSource, dataset_uri: str, options: StreamOptions, run_tasks: RunTasks, *, live: bool
) -> PreparedDataset:
    shape = _find_shape(source)
    shuffled = shuffle(source)
    plan = _digest_plan(shuffled, shape, options)
    published = None
    if files.find_size(layout.dataset_manifest(dataset_uri)) is not None:
        published = load_manifest(dataset_uri)
    is_complete = published is not None and not say_lost(dataset_uri, published)
    if published is None:
        check_no_other_files(dataset_uri, lambda uri: _may_be_ours(dataset_uri, uri))
        files.check_writable(dataset_uri)
    tasks = _Tasks(shuffled, shape, dataset_uri, None if is_complete else plan, options)
    written = _run(tasks, run_tasks, live=live)
    bad = [row for chunk in written for row in chunk.bad]
    manifest = _build_manifest(source, shape, written, options.encoding)
    if is_complete:
        stored = check_same(dataset_uri, manifest.source_digest, manifest.source)
        _check_bad(bad, len(source.candidates), options.max_bad, source)
        return PreparedDataset(stored, created=False)
    try:
        _check_bad(bad, len(source.candidates), options.max_bad, source)
        _check_rows(manifest, written, source)
        _say_equal_images(written, source)
    except DatasetError:
        _withdraw(dataset_uri, plan, manifest)
        raise
    if published is not None and published.source_digest != manifest.source_digest:
        _delete_own(dataset_uri, plan, manifest, kept=_shard_names(published))
        check_same(dataset_uri, manifest.source_digest, manifest.source)
    if bad:
        files.write_bytes(layout.dataset_quarantine(dataset_uri), _quarantine(bad, source))
    try:
        created = publish.write_manifest(layout.dataset_manifest(dataset_uri), manifest.to_json())
    except ConflictError:
        _delete_own(dataset_uri, plan, manifest, kept=_shard_names(load_manifest(dataset_uri)))
        stored = check_same(dataset_uri, manifest.source_digest, manifest.source)
        check_complete(dataset_uri, stored)
        return PreparedDataset(stored, created=False)
    _write_deleted_again(dataset_uri, manifest, lambda: _run(tasks, run_tasks, live=live))
    write_preview(dataset_uri, _draw_preview(dataset_uri, manifest))
    _write_deleted_again(dataset_uri, manifest, lambda: _run(tasks, run_tasks, live=live))
    if created:
        _delete_others(dataset_uri, manifest, bad)
    else:
        _delete_marks(dataset_uri, plan)
    return PreparedDataset(manifest, created or published is not None)


def _shard_names(manifest: Manifest | None) -> frozenset[str]:
    splits = {} if manifest is None else manifest.splits
    return frozenset(shard.name for split in splits.values() for shard in split.shards)


def shuffle(source: StreamedSource) -> StreamedSource:
    """Returns a source with its candidates in a random order, which depends only on the seed and their keys."""

    def place(candidate: Candidate) -> int:
        return int.from_bytes(
            hashlib.sha256(encode_text(f"order {SEED} {candidate.key}")).digest()[:8], "big"
        )

    listed = source.candidates if isinstance(source.candidates, Candidates) else Candidates(source.candidates)
    places = np.fromiter(map(place, listed), np.uint64, len(listed))
    return replace(source, candidates=listed.take(np.argsort(places, kind="stable")))


def run_in_threads(tasks: Sequence[bytes]) -> Iterator[bytes]:
    """Runs the tasks in this process, two at a time: one writes while the other decodes, in several threads.

    Pillow decodes and scales without Python's lock.
    """
    with thread_pool(_TASKS_AT_A_TIME, "prepare") as pool:
        running: deque[Future[bytes]] = deque()
        try:
            for task in tasks:
                running.append(pool.submit(run_chunk, task))
                if len(running) > _TASKS_AT_A_TIME:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for each in running:
                each.cancel()


def _find_shape(source: StreamedSource) -> ImageShape:
    """Returns the shape of the first image that can be read."""
    first = ""
    for candidate in source.candidates:
        problem = candidate.problem
        if not problem:
            try:
                height, width, channels = source.read(candidate.location or candidate.key)[1].shape
            except BadImageError as err:
                problem = str(err)
            else:
                return height, width, channels
        first = first or f"{candidate.key}: {problem}"
    raise DatasetError(
        f"{source.description}: none of the {len(source.candidates)} images can be used. First: {first}."
    )


def _digest_plan(source: StreamedSource, shape: ImageShape, options: StreamOptions) -> str:
    """Returns a digest of all that decides what the chunks are, to find those of an earlier attempt again."""
    digest = hashlib.sha256(
        repr(
            (source.class_names, shape, source.settings, source.metadata, dict(source.fractions), options)
        ).encode()
    )
    for candidate in source.candidates:
        digest.update(encode_text(repr(candidate)))
    return digest.hexdigest()


class _Tasks(Sequence[bytes]):
    """The chunks of a source as pickled tasks, each made when it is asked for: all together take much memory."""

    def __init__(
        self,
        source: StreamedSource,
        shape: ImageShape,
        dataset_uri: str,
        plan: str | None,
        options: StreamOptions,
    ) -> None:
        self._source, self._shape, self._dataset_uri = source, shape, dataset_uri
        self._plan, self._encoding = plan, options.encoding
        num_rows = len(source.candidates)
        self._rows = rows_per_shard(num_rows, math.prod(shape), options.shard_bytes)
        self.num_images = [min(self._rows, num_rows - first) for first in range(0, num_rows, self._rows)]

    def __len__(self) -> int:
        return len(self.num_images)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        first = index * self._rows
        task = ChunkTask(
            index=index,
            source=replace(self._source, candidates=self._source.candidates[first : first + self._rows]),
            image_shape=self._shape,
            dataset_uri=self._dataset_uri,
            mark_uri=None
            if self._plan is None
            else layout.prepare_mark(self._dataset_uri, self._plan, index),
            encoding=self._encoding,
        )
        return pickle.dumps(task, pickle.HIGHEST_PROTOCOL)


def _run(tasks: _Tasks, run_tasks: RunTasks, *, live: bool) -> list[WrittenChunk]:
    """Runs the tasks and returns their results in the order of the chunks."""
    found: dict[int, WrittenChunk] = {}
    with closing(build_progress(sum(tasks.num_images), live=live)) as progress:
        for data in run_tasks(tasks):
            result = pickle.loads(data)
            if isinstance(result, CnnlibError):
                raise result
            found[result.index] = result
            progress.update(tasks.num_images[result.index])
    if len(found) != len(tasks):
        raise DatasetError(f"{len(found)} of {len(tasks)} parts of the source were prepared.")
    return [found[index] for index in range(len(tasks))]


def _build_manifest(
    source: StreamedSource,
    shape: ImageShape,
    written: Sequence[WrittenChunk],
    encoding: ImageEncoding | None,
) -> Manifest:
    names = sorted({name for chunk in written for name in chunk.shards}, key=_split_order)
    identity: tuple[object, ...] = (
        source.class_names,
        shape,
        source.settings,
        dict(source.fractions),
        add_digests(written),
    )
    if encoding is not None:
        identity += (encoding.to_document(),)
    return Manifest(
        class_names=source.class_names,
        image_shape=shape,
        splits={
            name: Split(
                rows=sum(chunk.shards[name].rows for chunk in written if name in chunk.shards),
                rows_per_class=tuple(
                    np.sum(
                        [chunk.rows_per_class[name] for chunk in written if name in chunk.shards], axis=0
                    ).tolist()
                ),
                shards=tuple(chunk.shards[name] for chunk in written if name in chunk.shards),
            )
            for name in names
        },
        source=source.description,
        source_digest=publish.sha256_hex(repr(identity).encode()),
        metadata=source.metadata,
        encoding=encoding,
    )


def _split_order(name: str) -> tuple[int, str]:
    order = ("train", "val", "test")
    return (order.index(name) if name in order else len(order)), name


def _check_bad(bad: Sequence[BadRow], total: int, max_bad: float, source: StreamedSource) -> None:
    if not bad:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in count_reasons(bad).items())
    log_event("quarantine", images=len(bad), of=total, reasons=reasons)
    if len(bad) > max_bad * total:
        shown = "; ".join(f"{row.key}: {row.reason}" for row in bad[:_SHOWN])
        raise DatasetError(
            f"{len(bad)} of the {total} images of {source.description} cannot be used ({reasons}); at most "
            f"{max_bad:.2%} may. First: {shown}. Correct them, or give a larger --max-bad. Nothing was published."
        )


def _check_rows(manifest: Manifest, written: Sequence[WrittenChunk], source: StreamedSource) -> None:
    ids = np.concatenate([chunk.ids for chunk in written])
    if len(np.unique(ids)) < len(ids):
        raise DatasetError(f"{source.description} names an image twice. Every image needs a name of its own.")
    rows_per_class = {name: split.rows_per_class for name, split in manifest.splits.items()}
    for name in source.fractions:
        if name not in manifest.splits:
            raise DatasetError(
                f"The split {name!r} of {source.description} has no rows. There are too few images."
            )
    check_class_rows(rows_per_class, manifest.class_names, source.description)


def _say_equal_images(written: Sequence[WrittenChunk], source: StreamedSource) -> None:
    names = sorted({name for chunk in written for name in chunk.shards})
    splits = [
        np.full(chunk.shards[name].rows, names.index(name), np.int32)
        for chunk in written
        for name in sorted(chunk.shards)
    ]
    found = Occurrences(
        contents=np.concatenate([chunk.contents for chunk in written]),
        labels=np.concatenate([chunk.labels for chunk in written]),
        splits=np.concatenate(splits),
    )
    ids = np.concatenate([chunk.ids for chunk in written])

    def describe(row: int) -> str:
        key = next(each.key for each in source.candidates if row_id(each.key) == ids[row])
        return f"{encode_text(key).decode(errors='replace')} ({source.class_names[found.labels[row]]})"

    log_equal_images(found, names, describe)


def _quarantine(bad: Sequence[BadRow], source: StreamedSource) -> bytes:
    return parquet_bytes(
        pa.table(
            {
                "path": pa.array([encode_text(row.key).decode(errors="replace") for row in bad], pa.string()),
                "class_name": pa.array(
                    [None if row.label is None else source.class_names[row.label] for row in bad], pa.string()
                ),
                "reason": pa.array([row.reason for row in bad], pa.string()),
            }
        )
    )


def _may_be_ours(dataset_uri: str, uri: str) -> bool:
    known = (layout.dataset_manifest, layout.dataset_preview, layout.dataset_quarantine)
    name = uri.removeprefix(join_uri(dataset_uri, ""))
    return (
        uri in {each(dataset_uri) for each in known}
        or layout.is_shard(name)
        or uri.startswith(join_uri(layout.prepare_marks(dataset_uri), ""))
    )


def _delete_own(dataset_uri: str, plan: str, manifest: Manifest, kept: frozenset[str]) -> None:
    names = _shard_names(manifest) - kept
    map_threads(lambda name: files.delete(join_uri(dataset_uri, name)), sorted(names))
    _delete_marks(dataset_uri, plan)


def _withdraw(dataset_uri: str, plan: str, manifest: Manifest) -> None:
    """Deletes what an attempt wrote that failed, but no shard that another attempt has published or may publish.

    Equal images make equal shards, whatever the limits of an attempt are. Where an attempt with other settings has left
    marks, alive or killed, all shards stay: whoever publishes deletes those that are not its own.
    """
    _delete_marks(dataset_uri, plan)
    manifest_uri = layout.dataset_manifest(dataset_uri)
    if files.find_size(manifest_uri) is not None:
        _delete_own(dataset_uri, plan, manifest, kept=_shard_names(load_manifest(dataset_uri)))
        return
    if files.list_objects(layout.prepare_marks(dataset_uri)):
        return

    def delete(name: str) -> None:
        if files.find_size(manifest_uri) is None:
            files.delete(join_uri(dataset_uri, name))

    map_threads(delete, sorted(_shard_names(manifest)))


def _write_deleted_again(dataset_uri: str, manifest: Manifest, write: Callable[[], object]) -> None:
    """Writes the shards again that an attempt deleted which failed while this one published them.

    Raises:
        DatasetError: some are still missing.
    """
    if _find_missing(dataset_uri, manifest):
        write()
        if missing := _find_missing(dataset_uri, manifest):
            raise DatasetError(
                f"{dataset_uri}: another preparation deleted {len(missing)} shards, such as {missing[0]}. Prepare the "
                "dataset again."
            )


def _find_missing(dataset_uri: str, manifest: Manifest) -> list[str]:
    base = join_uri(dataset_uri, "")
    stored = {each.uri.removeprefix(base) for each in files.list_objects(dataset_uri)}
    return sorted(_shard_names(manifest) - stored)


def _delete_others(dataset_uri: str, manifest: Manifest, bad: Sequence[BadRow]) -> None:
    """Deletes what attempts with other settings left: people read the shards of a folder without the manifest.

    An attempt that still runs loses its shards, too. It cannot publish them any more.
    """
    kept = {join_uri(dataset_uri, name) for name in _shard_names(manifest)}
    if not bad:
        files.delete(layout.dataset_quarantine(dataset_uri))
    base, marks = join_uri(dataset_uri, ""), join_uri(layout.prepare_marks(dataset_uri), "")
    found = [each.uri for each in files.list_objects(dataset_uri)]
    others = [
        uri
        for uri in found
        if uri.startswith(marks) or (layout.is_shard(uri.removeprefix(base)) and uri not in kept)
    ]
    map_threads(files.delete, others)


def _delete_marks(dataset_uri: str, plan: str) -> None:
    first = layout.prepare_mark(dataset_uri, plan, 0).rpartition("-")[0]
    marks = files.list_objects(layout.prepare_marks(dataset_uri))
    map_threads(files.delete, [mark.uri for mark in marks if mark.uri.startswith(first)])


def _draw_preview(dataset_uri: str, manifest: Manifest) -> bytes:
    """Draws rows of the first split, one class after the other as far as its first shard has them."""
    # Imported here, because only this function needs Pillow.
    from cnnlib.dataset.preview import PREVIEW_CHOICE, preview_png

    split = next(iter(manifest.splits.values()))
    shard = split.shards[0]
    rows = read_range(dataset_uri, manifest, whole_shard(0, shard))
    of_class = [np.flatnonzero(rows.labels == label) for label in range(manifest.num_classes)]
    dealt = [each[place] for place in range(PREVIEW_CHOICE) for each in of_class if place < len(each)]
    shown = np.array(dealt[:PREVIEW_CHOICE], np.int64)
    return preview_png(rows.images[shown], rows.labels[shown], manifest.class_names)
