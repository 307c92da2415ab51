"""Tests the order of rows as arithmetic. test_feed.py tests the batches that workers build from it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.feed.order import (
    ValidationSplit,
    epoch_order,
    num_virtual_shards,
    partition_bounds,
    range_order,
    row_order,
    split_rows,
    worker_partitions,
)

FROZEN_ORDER = [[0, 2, 6, 9], [1, 3, 5, 10]]  # of 11 rows in batches of 4, seed 0, epoch 1
FROZEN_RANGES = [1, 3, 5, 2, 4, 0]
FROZEN_ROWS = [5, 3, 0, 4, 1, 2]

splits = st.tuples(st.integers(1, 400), st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5]))


@pytest.mark.parametrize(
    ("num_rows", "fraction", "expected"),
    [(10, 0.2, [2, 7]), (10, 0.0, []), (5, 0.5, [1, 3]), (60_000, 1e-9, [])],
)
def test_validation_rows_are_evenly_spaced(num_rows: int, fraction: float, expected: list[int]) -> None:
    assert np.flatnonzero(ValidationSplit.of(num_rows, fraction).mask(0, num_rows)).tolist() == expected


@given(split=splits)
def test_validation_rows_are_counted_without_a_list_of_them(split: tuple[int, float]) -> None:
    validation_split = ValidationSplit.of(*split)
    mask = validation_split.mask(0, validation_split.num_rows)
    assert mask.sum() == validation_split.count == round(split[0] * split[1])
    counted = [validation_split.below(position) for position in range(validation_split.num_rows + 1)]
    assert counted == [0, *np.cumsum(mask).tolist()]
    train = np.flatnonzero(~mask)
    assert [validation_split.position(index) for index in range(len(train))] == train.tolist()


def test_validation_rows_of_a_billion_rows_need_no_list() -> None:
    validation_split = ValidationSplit.of(10**9, 0.1)
    assert validation_split.below(10**9) == 10**8
    assert validation_split.mask(999_999_990, 10**9).sum() == 1


@given(split=splits, num_ranges=st.integers(1, 8))
def test_every_position_belongs_to_exactly_one_range(split: tuple[int, float], num_ranges: int) -> None:
    validation_split = ValidationSplit.of(*split)
    ranges = split_rows(validation_split, num_ranges)
    assert len(ranges) == num_ranges
    assert (ranges[0].start, ranges[-1].stop) == (0, validation_split.num_rows)
    assert all(one.stop == two.start for one, two in pairwise(ranges))
    sizes = [
        validation_split.train_below(stop) - validation_split.train_below(start) for start, stop in ranges
    ]
    assert max(sizes) - min(sizes) <= 1


def test_partitions_differ_in_length_by_at_most_one_row() -> None:
    lengths = np.diff(partition_bounds(610, 64))
    assert sorted(set(lengths.tolist())) == [9, 10]
    assert lengths.sum() == 610


def test_workers_own_contiguous_partitions_without_gaps() -> None:
    partitions = [worker_partitions(12, 4, rank) for rank in range(4)]
    assert partitions == [range(3), range(3, 6), range(6, 9), range(9, 12)]


@pytest.mark.parametrize(
    ("batch_size", "workers", "expected"),
    [(64, 1, 16), (64, 2, 16), (64, 16, 16), (64, 32, 32), (24, 3, 24), (8, 4, 8), (30, 1, 30), (7, 1, 7)],
)
def test_virtual_shards_divide_the_batch_and_are_the_same_number_for_every_worker(
    batch_size: int, workers: int, expected: int
) -> None:
    assert num_virtual_shards(batch_size, workers) == expected


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
    assert range_order(6, seed=0, epoch=1, virtual_shard=2).tolist() == FROZEN_RANGES
    assert row_order(6, seed=0, epoch=1, virtual_shard=2, range_index=3).tolist() == FROZEN_ROWS
