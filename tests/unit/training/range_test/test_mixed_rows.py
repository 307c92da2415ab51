"""A range test trains on rows of all parts of a split, and holds few of them at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.manifest import Shard, Split
from cnnlib.training.range_test.rows import choose_pieces, iter_mixed_batches
from tests.datasets import TRAIN_ROWS, make_source, write_dataset_without_ray

ROWS = 50  # of a shard


def split_of(shards: int) -> Split:
    each = tuple(Shard(name=f"{index}", rows=ROWS, bytes=1, sha256="") for index in range(shards))
    return Split(rows=shards * ROWS, rows_per_class=(shards * ROWS,), shards=each)


@pytest.mark.parametrize(
    ("shards", "wanted", "shards_read"), [(100, 300, 16), (100, 2000, 40), (3, 100, 3), (3, 150, 3)]
)
def test_rows_come_from_as_many_shards_as_are_needed_but_from_several(
    shards: int, wanted: int, shards_read: int
) -> None:
    [positions] = choose_pieces(split_of(shards), wanted, 10_000, seed=0)
    assert len(positions) == len(set(positions.tolist())) == wanted
    assert len(np.unique(positions // ROWS)) == shards_read
    assert 0 <= positions.min() <= positions.max() < shards * ROWS
    assert (np.diff(positions) < 0).any()  # mixed
    for seed, same in ((0, True), (1, False)):
        [again] = choose_pieces(split_of(shards), wanted, 10_000, seed=seed)
        assert (again.tolist() == positions.tolist()) == same


@pytest.mark.parametrize(("shards", "wanted"), [(100, 950), (100, 2000), (2, 2000)])
def test_pieces_hold_few_rows_and_read_no_shard_twice_unless_rows_come_again(
    shards: int, wanted: int
) -> None:
    pieces = list(choose_pieces(split_of(shards), wanted, 200, seed=0))
    assert sum(map(len, pieces)) == wanted
    assert all(len(piece) == 200 for piece in pieces[:-1])
    assert 0 < len(pieces[-1]) <= 200
    read = [set((piece // ROWS).tolist()) for piece in pieces]
    assert sum(map(len, read)) == len(set.union(*read)) or shards * ROWS < wanted


def test_batches_are_rows_of_the_split_and_of_a_small_one_they_come_again(tmp_path: Path) -> None:
    manifest = write_dataset_without_ray(str(tmp_path / "data"))
    batches = list(
        iter_mixed_batches(str(tmp_path / "data"), manifest, "train", batch_size=10, steps=10, seed=3)
    )
    assert [len(batch) for batch in batches] == [10] * 10
    ids = np.concatenate([batch.ids for batch in batches])
    assert ids[:TRAIN_ROWS].tolist() == ids[TRAIN_ROWS:].tolist()
    stored = make_source().splits["train"].read(0, TRAIN_ROWS)
    assert sorted(ids[:TRAIN_ROWS]) == sorted(stored.ids)
    places = {int(row_id): index for index, row_id in enumerate(stored.ids)}
    for batch in batches:
        order = [places[int(row_id)] for row_id in batch.ids]
        np.testing.assert_array_equal(batch.images, stored.images[order])
        np.testing.assert_array_equal(batch.labels, stored.labels[order])
