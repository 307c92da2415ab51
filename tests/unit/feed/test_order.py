"""Tests the order of rows as arithmetic. test_feed.py tests the batches that workers build from it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.feed.order import (
    cut_pieces,
    deal_pieces,
    deal_rows,
    epoch_order,
    partition_bounds,
    range_order,
    row_order,
    split_pieces,
    virtual_shard_columns,
    worker_partitions,
    worker_shares,
)
from cnnlib.feed.validation import ValidationSplit

FROZEN_ORDER = [[0, 2, 6, 9], [1, 3, 5, 10]]  # of 11 rows in batches of 4, seed 0, epoch 1
FROZEN_DEALT = [1, 3, 0, 5, 2, 4]
FROZEN_PIECES = [1, 3, 5, 4, 2, 0]
FROZEN_RANGES = [1, 3, 5, 2, 4, 0]
FROZEN_ROWS = [5, 3, 0, 4, 1, 2]


def test_partitions_differ_in_length_by_at_most_one_row() -> None:
    lengths = np.diff(partition_bounds(610, 64))
    assert sorted(set(lengths.tolist())) == [9, 10]
    assert lengths.sum() == 610


def test_workers_own_contiguous_partitions_without_gaps() -> None:
    partitions = [worker_partitions(12, 4, rank) for rank in range(4)]
    assert partitions == [range(3), range(3, 6), range(6, 9), range(9, 12)]


def test_a_streamed_batch_holds_the_same_rows_for_every_size_and_number_of_workers() -> None:
    for batch_size in range(1, 513):
        columns = virtual_shard_columns(batch_size)
        assert len(columns) == min(16, batch_size) + 1
        one = assemble(batch_size, 1)
        # Every row that the virtual shards give to two steps, once.
        assert len(np.unique(one)) == one.size == 2 * batch_size
        for workers in range(2, 9):
            if batch_size % workers == 0:
                np.testing.assert_array_equal(assemble(batch_size, workers), one)


def assemble(batch_size: int, workers: int) -> np.ndarray:
    """Returns (virtual shard, row of it) as one number for each position of two global batches, [2, batch_size]."""
    size = batch_size // workers
    batch = np.full((2, batch_size), -1)
    for rank in range(workers):
        own = batch[:, rank * size : (rank + 1) * size]
        for share in worker_shares(batch_size, workers, rank):
            rows = share.virtual_shard * 10**6 + np.arange(2 * share.width).reshape(2, share.width)
            own[:, share.columns] = rows[:, share.taken]
    assert batch.min() >= 0
    return batch


def test_pieces_cover_every_position_once() -> None:
    pieces = cut_pieces([5, 1, 7], 3)
    assert pieces == [(0, 1), (1, 3), (3, 5), (5, 6), (6, 8), (8, 10), (10, 13)]


@given(num_pieces=st.integers(1, 200), seed=st.integers(0, 5))
def test_every_virtual_shard_gets_one_of_16_neighbouring_pieces(num_pieces: int, seed: int) -> None:
    order = deal_pieces(num_pieces, seed)
    assert sorted(order.tolist()) == list(range(num_pieces))
    if num_pieces % 16 == 0:
        blocks = np.sort(order.reshape(16, -1) // 16, axis=1)
        np.testing.assert_array_equal(blocks, np.broadcast_to(np.arange(num_pieces // 16), blocks.shape))


@given(
    num_rows=st.integers(20, 300),
    fraction=st.sampled_from([0.0, 0.1, 0.5]),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_virtual_shards_have_the_training_rows_of_their_partitions(
    num_rows: int, fraction: float, batch_size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    split = ValidationSplit.of(rng.random(num_rows) < fraction)
    pieces = cut_pieces([num_rows // 3, num_rows - num_rows // 3], 4)
    dealt = [pieces[index] for index in deal_pieces(len(pieces), seed)]
    shards = split_pieces(dealt, split, batch_size)
    positions = [np.concatenate([np.arange(*each) for each in ranges] or [[]]) for ranges in shards]
    assert sorted(np.concatenate(positions).astype(int).tolist()) == list(range(num_rows))
    train = [sum((~split.mask(*each)).sum() for each in ranges) for ranges in shards]
    bounds = partition_bounds(split.train_rows, batch_size)[virtual_shard_columns(batch_size)]
    assert train == np.diff(bounds).tolist()


def test_dealt_rows_are_a_permutation_of_all() -> None:
    assert sorted(deal_rows(50, seed=1).tolist()) == list(range(50))
    assert deal_rows(50, seed=1).tolist() != deal_rows(50, seed=2).tolist()


def test_streamed_rows_are_in_another_order_for_every_seed_epoch_and_shard() -> None:
    draws = [(seed, epoch, shard) for seed in (0, 1) for epoch in (1, 2) for shard in (0, 1)]
    ranges = {range_order(20, *draw).tobytes() for draw in draws}
    rows = {row_order(20, *draw, 0).tobytes() for draw in draws}
    assert len(ranges) == len(rows) == len(draws)
    assert not ranges & rows


def test_the_order_is_the_one_that_earlier_runs_were_trained_in() -> None:
    # Recorded with this version: a run that is continued must keep the order that it began with.
    assert epoch_order(11, 4, range(4), seed=0, epoch=1).tolist() == FROZEN_ORDER
    assert epoch_order(11, 4, range(1, 3), seed=0, epoch=1).tolist() == [row[1:3] for row in FROZEN_ORDER]
    assert deal_rows(6, seed=0).tolist() == FROZEN_DEALT
    assert deal_pieces(6, seed=0).tolist() == FROZEN_PIECES
    assert range_order(6, seed=0, epoch=1, virtual_shard=2).tolist() == FROZEN_RANGES
    assert row_order(6, seed=0, epoch=1, virtual_shard=2, range_index=3).tolist() == FROZEN_ROWS
