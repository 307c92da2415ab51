"""Which rows a step sees, worked out exactly as the workers do it: ingest deals, the worker's share orders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlib.config import TrainConfig
from cnnlib.data.manifest import Manifest, Split
from cnnlib.data.order import (
    epoch_order,
    held_out_positions,
    lane_bounds,
    split_rows,
    steps_per_epoch,
    worker_lanes,
)
from cnnlib.data.record import Rows
from cnnlib.training.worker import WorkerTask, _Share

WORKER_COUNTS = (1, 2, 4)
FROZEN_ORDER = [[0, 2, 6, 9], [1, 3, 5, 10]]  # of 11 rows in batches of 4, seed 0, epoch 1


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, float, int]:
    """Rows of a split, the share held out, and a batch size that four workers divide and the rows fill."""
    batch_size = draw(st.sampled_from([4, 8, 12, 32]))
    fraction = draw(st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5]))
    num_rows = draw(
        st.integers(batch_size, 300).filter(lambda rows: rows - round(rows * fraction) >= batch_size)
    )
    return num_rows, fraction, batch_size


def shares(num_rows: int, fraction: float, batch_size: int, workers: int, seed: int = 0) -> list[_Share]:
    """Every worker's share. A row's id is its position in the split."""
    config = TrainConfig(
        batch_size=batch_size, workers=workers, validation_fraction=fraction, seed=seed, split="train"
    )
    split = Split(rows=num_rows, rows_per_class=(num_rows,), shards=())
    manifest = Manifest(
        class_names=("one",), image_shape=(1, 1, 1), splits={"train": split}, source="", source_digest=""
    )
    task = WorkerTask(
        config=config,
        dataset_uri="",
        manifest=manifest,
        run="",
        cpus=1,
        steps_per_epoch=steps_per_epoch(num_rows - round(num_rows * fraction), batch_size),
        live=False,
    )
    read = [(deal.start, deal.stop) for deal in split_rows(num_rows, fraction, batch_size, workers)]
    return [_Share.deal(task, _rows(start, stop), rank, workers) for rank, (start, stop) in enumerate(read)]


def global_batches(
    num_rows: int, fraction: float, batch_size: int, workers: int, seed: int = 0, epoch: int = 1
) -> np.ndarray:
    """Positions of the rows of every global batch of an epoch, int64 [steps, batch_size]."""
    config = TrainConfig(batch_size=batch_size, workers=workers, seed=seed)
    steps = steps_per_epoch(num_rows - round(num_rows * fraction), batch_size)
    parts = [
        share.rows.ids[share.order(config, epoch, steps)]
        for share in shares(num_rows, fraction, batch_size, workers, seed)
    ]
    assert {part.shape for part in parts} == {(steps, batch_size // workers)}
    return np.concatenate(parts, axis=1)


def _rows(start: int, stop: int) -> Rows:
    count = stop - start
    return Rows(
        ids=np.arange(start, stop),
        images=np.zeros((count, 1, 1, 1), np.uint8),
        labels=np.zeros(count, np.int32),
    )


@given(run=runs(), workers=st.sampled_from(WORKER_COUNTS))
def test_every_position_belongs_to_exactly_one_worker(run: tuple[int, float, int], workers: int) -> None:
    num_rows, fraction, batch_size = run
    dealt = split_rows(num_rows, fraction, batch_size, workers)
    assert len(dealt) == workers
    assert np.concatenate([np.arange(deal.start, deal.stop) for deal in dealt]).tolist() == list(
        range(num_rows)
    )
    used = np.concatenate([np.concatenate([deal.train, deal.validation]) for deal in dealt])
    assert sorted(used.tolist()) == list(range(num_rows))
    for deal in dealt:
        assert all(deal.start <= position < deal.stop for position in [*deal.train, *deal.validation])


@settings(max_examples=60)
@given(run=runs(), seed=st.integers(0, 2**31), epoch=st.integers(1, 50))
def test_a_global_batch_holds_the_same_rows_for_any_number_of_workers(
    run: tuple[int, float, int], seed: int, epoch: int
) -> None:
    one, *others = (global_batches(*run, workers, seed, epoch) for workers in WORKER_COUNTS)
    for other in others:
        np.testing.assert_array_equal(one, other)


@settings(max_examples=60)
@given(run=runs(), seed=st.integers(0, 2**31), workers=st.sampled_from(WORKER_COUNTS))
def test_an_epoch_takes_whole_batches_of_training_rows_each_at_most_once(
    run: tuple[int, float, int], seed: int, workers: int
) -> None:
    num_rows, fraction, batch_size = run
    seen = global_batches(*run, workers, seed).ravel().tolist()
    held_out = set(held_out_positions(num_rows, fraction).tolist())
    assert len(held_out) == round(num_rows * fraction)
    assert len(seen) == len(set(seen)) == (num_rows - len(held_out)) // batch_size * batch_size
    assert not held_out & set(seen)
    assert set(seen) <= set(range(num_rows))


@given(run=runs(), workers=st.sampled_from(WORKER_COUNTS))
def test_the_rows_held_out_are_the_same_for_any_number_of_workers(
    run: tuple[int, float, int], workers: int
) -> None:
    num_rows, fraction, _ = run
    dealt = shares(*run, workers)
    validation = np.concatenate([share.rows.ids[share.validation] for share in dealt])
    assert validation.tolist() == held_out_positions(num_rows, fraction).tolist()
    trained = np.concatenate([share.rows.ids[share.train] for share in dealt])
    assert len(trained) == num_rows - len(validation)
    assert not set(trained.tolist()) & set(validation.tolist())


@pytest.mark.parametrize(
    ("num_rows", "fraction", "expected"),
    [(10, 0.2, [2, 7]), (10, 0.0, []), (5, 0.5, [1, 3]), (60_000, 1e-9, [])],
)
def test_rows_are_held_out_at_even_distances(num_rows: int, fraction: float, expected: list[int]) -> None:
    assert held_out_positions(num_rows, fraction).tolist() == expected


def test_lanes_differ_in_length_by_at_most_one_row() -> None:
    lengths = np.diff(lane_bounds(610, 64))
    assert sorted(set(lengths.tolist())) == [9, 10]
    assert lengths.sum() == 610


def test_workers_own_contiguous_lanes_without_gaps() -> None:
    lanes = [worker_lanes(12, 4, rank) for rank in range(4)]
    assert lanes == [range(3), range(3, 6), range(6, 9), range(9, 12)]


def test_the_remainder_rotates_until_every_row_was_seen() -> None:
    left_out = [
        frozenset(range(610)) - set(global_batches(610, 0.0, 64, 2, epoch=epoch).ravel().tolist())
        for epoch in range(1, 6)
    ]
    assert [len(rows) for rows in left_out] == [610 - 9 * 64] * 5
    assert len(set(left_out)) == 5
    assert not frozenset.intersection(*left_out)


def test_rows_that_fill_their_last_batch_leave_no_remainder() -> None:
    assert sorted(global_batches(64, 0.0, 16, 4).ravel().tolist()) == list(range(64))


def test_another_seed_or_epoch_gives_another_order() -> None:
    orders = {
        (seed, epoch): global_batches(300, 0.1, 12, 2, seed, epoch).tobytes()
        for seed in (0, 1, 2)
        for epoch in (1, 2, 3)
    }
    assert len(set(orders.values())) == len(orders) == 9


def test_same_seed_and_epoch_give_the_same_order_again() -> None:
    np.testing.assert_array_equal(
        global_batches(300, 0.1, 12, 2, seed=7, epoch=3), global_batches(300, 0.1, 12, 2, seed=7, epoch=3)
    )


def test_the_order_is_the_one_that_earlier_runs_were_trained_in() -> None:
    # Written down from this very version: a run that is continued must go on in the order it began in.
    assert epoch_order(11, 4, range(4), seed=0, epoch=1).tolist() == FROZEN_ORDER
    assert epoch_order(11, 4, range(1, 3), seed=0, epoch=1).tolist() == [row[1:3] for row in FROZEN_ORDER]
