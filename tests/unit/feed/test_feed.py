"""Tests the global batches of both feeds, assembled from the batches of all workers."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Generator, Iterable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnlib.dataset import reader
from cnnlib.dataset.manifest import Manifest, Shard, ShardRange, Split, whole_shard
from cnnlib.dataset.record import Rows, rows_to_table
from cnnlib.feed.feed import Feed, FeedTask, choose_cache, fits_in_memory, split_bytes
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.order import steps_per_epoch
from cnnlib.feed.read import BlockReader
from cnnlib.feed.stream import StreamFeed
from cnnlib.feed.stream_plan import PlannedRead, StreamPlan
from cnnlib.feed.validation import ValidationSplit, choose_validation_rows
from tests.feeds import build_feed, read_here

WORKER_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8)
SHARD_ROWS = 13
GiB = 2**30
MANIFEST = Manifest(class_names=("one",), image_shape=(1, 1, 1), splits={}, source="", source_digest="")

# A busy machine may be slow to draw a case; no case changes the fixture that the cases share.
UNCHECKED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
kinds = pytest.mark.parametrize("kind", [MemoryFeed, StreamFeed])


@dataclasses.dataclass(frozen=True)
class Run:
    """Describes a run: its rows, validation fraction, and a batch size that the rows fill."""

    num_rows: int
    fraction: float
    batch_size: int
    seed: int = 0
    pieces_per_shard: int = 1

    @property
    def validation_split(self) -> ValidationSplit:
        ids, labels = np.arange(self.num_rows), np.zeros(self.num_rows, np.int32)
        count = round(self.num_rows * self.fraction)
        return ValidationSplit.of(choose_validation_rows(ids, labels, [count], self.seed))

    @property
    def worker_counts(self) -> list[int]:
        return [workers for workers in WORKER_COUNTS if self.batch_size % workers == 0]

    @property
    def steps(self) -> int:
        return steps_per_epoch(self.validation_split.train_rows, self.batch_size)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    batch_size = draw(st.sampled_from([4, 8, 12, 30, 32, 36, 42, 48, 64, 68, 72, 96, 105, 108]))
    fraction = draw(st.sampled_from([0.0, 0.05, 0.3, 0.5]))
    num_rows = draw(
        st.integers(batch_size, 300).filter(lambda rows: rows - round(rows * fraction) >= batch_size)
    )
    return Run(num_rows, fraction, batch_size, draw(st.integers(0, 2**31)), draw(st.sampled_from([1, 5])))


@pytest.fixture(autouse=True)
def _rows_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces reading: id, label and pixel of a row are its position, so that a test can try thousands of orders."""

    def read_range(dataset_uri: str, manifest: Manifest, shard_range: ShardRange) -> Rows:
        positions = shard_range.shard_index * SHARD_ROWS + np.arange(shard_range.start, shard_range.stop)
        images = positions.astype(np.uint8).reshape(-1, 1, 1, 1)
        return Rows(ids=positions, images=images, labels=positions.astype(np.int32))

    monkeypatch.setattr("cnnlib.dataset.reader.read_range", read_range)

    def open_shard(dataset_uri: str, shard: Shard) -> pa.Table:
        rows = read_range(dataset_uri, MANIFEST, whole_shard(int(shard.name), shard))
        return rows_to_table(rows)

    monkeypatch.setattr("cnnlib.feed.read.open_checked_shard", open_shard)


def feeds(kind: type[Feed], run: Run, workers: int) -> list[Feed]:
    """Builds the feed of every worker."""
    sizes = [min(SHARD_ROWS, run.num_rows - first) for first in range(0, run.num_rows, SHARD_ROWS)]
    shards = tuple(Shard(name=str(index), rows=size, bytes=1, sha256="") for index, size in enumerate(sizes))
    split = Split(rows=run.num_rows, rows_per_class=(run.num_rows,), shards=shards)
    manifest = dataclasses.replace(MANIFEST, splits={"train": split})
    task = FeedTask(
        dataset_uri="",
        manifest=manifest,
        split_name="train",
        batch_size=run.batch_size,
        validation_split=run.validation_split,
        pieces_per_shard=run.pieces_per_shard,
        seed=run.seed,
        workers=workers,
    )
    return [build_feed(kind, dataclasses.replace(task, rank=rank)) for rank in range(workers)]


def global_batches(
    kind: type[Feed], run: Run, workers: int, epoch: int = 1, steps_per_call: int = 3
) -> np.ndarray:
    """Returns the row ids of every global batch of an epoch, int64 [steps, batch_size]."""
    worker_batches = []
    for feed in feeds(kind, run, workers):
        batches = list(feed.epoch(epoch, run.steps, steps_per_call))
        for batch in batches:
            np.testing.assert_array_equal(batch.labels, batch.ids)
            np.testing.assert_array_equal(batch.images[..., 0, 0, 0], batch.ids.astype(np.uint8))
        assert all(len(batch.ids) == steps_per_call for batch in batches[:-1])
        worker_batches.append(np.concatenate([batch.ids for batch in batches]))
    assert {ids.shape for ids in worker_batches} == {(run.steps, run.batch_size // workers)}
    return np.concatenate(worker_batches, axis=1)


@kinds
@settings(max_examples=20, suppress_health_check=UNCHECKED)
@given(run=runs(), epoch=st.integers(1, 50))
def test_a_global_batch_holds_the_same_rows_for_any_number_of_workers(
    kind: type[Feed], run: Run, epoch: int
) -> None:
    one, *others = (global_batches(kind, run, workers, epoch) for workers in run.worker_counts)
    for other in others:
        np.testing.assert_array_equal(one, other)


@kinds
@settings(max_examples=15, suppress_health_check=UNCHECKED)
@given(run=runs())
def test_an_epoch_takes_whole_batches_of_training_rows_each_at_most_once(kind: type[Feed], run: Run) -> None:
    seen = global_batches(kind, run, run.worker_counts[-1]).ravel().tolist()
    validation_rows = set(np.flatnonzero(run.validation_split.mask(0, run.num_rows)).tolist())
    assert len(seen) == len(set(seen)) == run.steps * run.batch_size
    assert not validation_rows & set(seen)
    assert set(seen) <= set(range(run.num_rows))


@kinds
@settings(max_examples=15, suppress_health_check=UNCHECKED)
@given(run=runs())
def test_each_validation_row_is_given_once_for_any_number_of_workers(kind: type[Feed], run: Run) -> None:
    for workers in run.worker_counts:
        given_out = [
            int(row)
            for feed in feeds(kind, run, workers)
            for rows in feed.validation_rows()
            for row in rows.ids
        ]
        assert sorted(given_out) == np.flatnonzero(run.validation_split.mask(0, run.num_rows)).tolist()


@kinds
@settings(max_examples=20, suppress_health_check=UNCHECKED)
@given(run=runs(), epoch=st.integers(1, 50), data=st.data())
def test_an_epoch_that_is_resumed_anywhere_goes_on_with_the_same_batches(
    kind: type[Feed], run: Run, epoch: int, data: st.DataObject
) -> None:
    done = data.draw(st.integers(0, run.steps), "done steps")
    steps_per_call = data.draw(st.integers(1, 9), "steps per call")
    workers = data.draw(st.sampled_from(run.worker_counts), "workers")
    whole = global_batches(kind, run, 1, epoch)
    parts = [
        np.concatenate(
            [
                np.empty((0, run.batch_size // workers), np.int64),
                *(batch.ids for batch in feed.epoch(epoch, run.steps, steps_per_call, done)),
            ]
        )
        for feed in feeds(kind, run, workers)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[done:])


def test_a_stream_that_is_resumed_reads_only_what_is_left_and_goes_on_to_the_next_epoch() -> None:
    run = Run(300, 0.0, 16)
    (feed,) = feeds(StreamFeed, run, 1)
    plan = StreamPlan(feed._task)  # type: ignore[attr-defined]
    rows = [sum(len(read.rows) for read in plan.epoch(1, run.steps, 3, done)) for done in range(run.steps)]
    assert rows == [(run.steps - done) * 16 for done in range(run.steps)]
    assert all(len(read.rows) for read in plan.epoch(1, run.steps, 3, run.steps - 1))
    resumed = [
        batch.ids for epoch, done in ((1, 5), (2, 0)) for batch in feed.epoch(epoch, run.steps, 3, done)
    ]
    expected = np.concatenate([global_batches(StreamFeed, run, 1)[5:], global_batches(StreamFeed, run, 1, 2)])
    np.testing.assert_array_equal(np.concatenate(resumed), expected)


@kinds
@pytest.mark.parametrize("steps_per_call", [1, 2, 100])
def test_the_order_does_not_depend_on_how_many_steps_a_call_has(
    kind: type[Feed], steps_per_call: int
) -> None:
    run = Run(300, 0.1, 12)
    expected = global_batches(kind, run, 2, steps_per_call=7)
    np.testing.assert_array_equal(global_batches(kind, run, 2, steps_per_call=steps_per_call), expected)


def test_the_order_does_not_depend_on_how_fast_shards_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, run = MemoryFeed, Run(300, 0.1, 32)
    expected = global_batches(kind, run, 1)
    rng, read = np.random.default_rng(0), reader.read_range

    def read_slowly(dataset_uri: str, manifest: Manifest, shard_range: ShardRange) -> Rows:
        threading.Event().wait(rng.uniform(0, 0.01))
        return read(dataset_uri, manifest, shard_range)

    monkeypatch.setattr("cnnlib.dataset.reader.read_range", read_slowly)
    np.testing.assert_array_equal(global_batches(kind, run, 1), expected)


@kinds
def test_the_remainder_rotates_until_every_row_was_seen(kind: type[Feed]) -> None:
    run = Run(610, 0.0, 64)
    left_out = [
        frozenset(range(610)) - set(global_batches(kind, run, 2, epoch).ravel().tolist())
        for epoch in range(1, 6)
    ]
    assert [len(rows) for rows in left_out] == [610 - 9 * 64] * 5
    assert len(set(left_out)) == 5
    assert not frozenset.intersection(*left_out)


@kinds
def test_another_seed_or_epoch_gives_another_order_and_the_same_gives_the_same(kind: type[Feed]) -> None:
    draws = [(seed, epoch) for seed in (0, 1, 2) for epoch in (1, 2, 3)]
    orders = [
        {global_batches(kind, Run(300, 0.1, 12, seed), 2, epoch).tobytes() for seed, epoch in draws}
        for _ in range(2)
    ]
    assert len(orders[0]) == len(draws)
    assert orders[0] == orders[1]


def test_streamed_batches_come_from_all_over_the_split() -> None:
    run = Run(512 * SHARD_ROWS, 0.0, 64)
    batches = global_batches(StreamFeed, run, 1)
    # The shards are dealt evenly: each batch has 4 rows of each of 16 shards.
    shards = np.sort(batches // SHARD_ROWS, axis=1)[:, ::4]
    assert all(len(set(row)) == 16 for row in shards.tolist())
    # And over the epoch, each 16th of the batch sees every 16th of the split.
    for part in np.split(batches, 16, axis=1):
        assert set((part // (32 * SHARD_ROWS)).ravel().tolist()) == set(range(16))


@kinds
@pytest.mark.parametrize("workers", [2, 4])
def test_every_worker_gets_a_fair_sample_of_rows_that_are_sorted_by_class(
    kind: type[Feed], workers: int
) -> None:
    run = Run(6_000, 0.0, 64)
    classes = global_batches(kind, run, workers) // (run.num_rows // 10)
    for own in np.split(classes, workers, axis=1):
        proportions = np.bincount(own.ravel(), minlength=10) / own.size
        # A tenth each; the standard deviation of a fair sample is below 0.007.
        assert np.abs(proportions - 0.1).max() < 0.025


def test_one_stream_goes_on_from_epoch_to_epoch_and_starts_anew_anywhere() -> None:
    run = Run(640, 0.1, 64)
    expected = [global_batches(StreamFeed, run, 1, epoch) for epoch in (1, 2, 3)]
    (feed,) = feeds(StreamFeed, run, 1)
    for epoch in (1, 2, 3, 2, 3):
        ids = np.concatenate([batch.ids for batch in feed.epoch(epoch, run.steps, 3)])
        np.testing.assert_array_equal(ids, expected[epoch - 1])
        if epoch == 2:  # a consumer that stops early
            batches = feed.epoch(1, run.steps, 3)
            next(batches)
            batches.close()
    opened: list[int] = []

    def read(reads: Iterable[PlannedRead]) -> Generator[Rows]:
        opened.append(1)
        return read_here(BlockReader.of(feed._task), reads)  # type: ignore[attr-defined]

    feed = StreamFeed(feed._task, read, last_epoch=3)  # type: ignore[attr-defined]
    for epoch in (1, 2, 3):
        list(feed.epoch(epoch, run.steps, 3))
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("mode", "num_bytes", "cropped", "expected"),
    [
        ("auto", 2 * GiB, False, "memory"),
        ("auto", 2 * GiB + 1, False, "none"),
        ("auto", 1, True, "none"),
        ("none", 1, False, "none"),
        ("memory", 8 * GiB, False, "memory"),
    ],
)
def test_where_rows_are_kept_depends_on_the_data_and_the_config_alone(
    mode: str, num_bytes: int, cropped: bool, expected: str
) -> None:
    assert choose_cache(mode, num_bytes, cropped=cropped) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("needed", "free", "store", "expected"),
    [
        (1 * GiB, 2 * GiB, 2 * GiB, True),
        (1 * GiB + 1, 2 * GiB, 2 * GiB, False),
        (4 * GiB, 9 * GiB, 5 * GiB, True),
        (4 * GiB + 1, 9 * GiB, 5 * GiB, False),
        (1, 0, 2 * GiB, False),
    ],
)
def test_rows_fit_half_the_memory_and_the_object_store(
    needed: int, free: int, store: int, expected: bool
) -> None:
    assert fits_in_memory(needed, free, store) is expected


def test_bytes_of_a_split_count_pixels_ids_and_labels() -> None:
    split = Split(rows=101, rows_per_class=(101,), shards=())
    manifest = dataclasses.replace(MANIFEST, image_shape=(28, 28, 1), splits={"train": split})
    assert split_bytes(manifest, "train") == 101 * (784 + 12)
