"""Every row is dealt to exactly one worker, and the worker knows which of its rows it received where."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.dataset.manifest import Manifest, Shard, Split
from cnnlib.feed.deal import own_positions, received_indexes, row_owners, sort_by_owner
from cnnlib.feed.feed import FeedTask
from cnnlib.feed.validation import ValidationSplit


@st.composite
def tasks(draw: st.DrawFn) -> FeedTask:
    workers = draw(st.integers(1, 8))
    batch_size = workers * draw(st.integers(1, 40))
    num_rows = draw(st.integers(1, 400))
    mask = np.zeros(num_rows, np.bool_)
    mask[list(draw(st.sets(st.integers(0, num_rows - 1))))] = True
    shard = Shard(name="0", rows=num_rows, bytes=1, sha256="")
    split = Split(rows=num_rows, rows_per_class=(num_rows,), shards=(shard,))
    manifest = Manifest(
        class_names=("one",), image_shape=(1, 1, 1), splits={"train": split}, source="", source_digest=""
    )
    return FeedTask(
        dataset_uri="",
        manifest=manifest,
        split_name="train",
        batch_size=batch_size,
        validation_split=ValidationSplit.of(mask),
        seed=draw(st.integers(0, 2**31)),
        workers=workers,
    )


@given(task=tasks())
def test_every_row_is_dealt_to_exactly_one_worker(task: FeedTask) -> None:
    order, bounds = sort_by_owner(row_owners(task), task.workers)
    assert sorted(order.tolist()) == list(range(task.split.rows))
    assert (bounds[0], bounds[-1]) == (0, task.split.rows)
    for rank in range(task.workers):
        received = order[bounds[rank] : bounds[rank + 1]]
        assert received.tolist() == sorted(received.tolist())
        train, validation = own_positions(dataclasses.replace(task, rank=rank))
        expected = np.concatenate([train, validation])
        # The worker finds each of its rows where it was received.
        np.testing.assert_array_equal(received[received_indexes(expected)], expected)
        mask = task.validation_split.mask(0, task.split.rows)
        assert not mask[train].any()
        assert mask[validation].all()


@given(task=tasks())
def test_workers_get_equally_many_rows_but_for_one_per_row_of_their_batch(task: FeedTask) -> None:
    train, validation = zip(
        *(own_positions(dataclasses.replace(task, rank=rank)) for rank in range(task.workers)), strict=True
    )
    sizes = [len(each) for each in train]
    # A partition has at most one row more than another.
    assert max(sizes) - min(sizes) <= task.worker_batch_size
    sizes = [len(each) for each in validation]
    assert max(sizes) - min(sizes) <= 1


def test_rows_of_one_worker_are_those_of_its_partitions() -> None:
    # Eight rows in four partitions of two: the first worker has the first two of what the seed deals.
    split = Split(rows=8, rows_per_class=(8,), shards=(Shard(name="0", rows=8, bytes=1, sha256=""),))
    task = FeedTask(
        dataset_uri="",
        manifest=Manifest(
            class_names=("one",), image_shape=(1, 1, 1), splits={"train": split}, source="", source_digest=""
        ),
        split_name="train",
        batch_size=4,
        validation_split=ValidationSplit.none(8),
        workers=2,
    )
    dealt = np.random.default_rng([0, 3]).permutation(8)
    train, validation = own_positions(task)
    assert train.tolist() == dealt[:4].tolist()
    assert len(validation) == 0
    owners = row_owners(task)
    assert sorted(np.flatnonzero(owners == 1).tolist()) == sorted(dealt[4:].tolist())
