"""What read tasks deal, shard by shard, is what each worker expects; no Ray runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cnnlib.dataset.manifest import Manifest, whole_shard
from cnnlib.feed.deal import row_owners
from cnnlib.feed.feed import FeedTask
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.ray_data import _read_and_deal, collect_rows
from cnnlib.feed.validation import ValidationSplit
from tests.datasets import add_metadata, make_source, write_dataset_without_ray
from tests.feeds import build_feed

ROWS, WORKERS, SHAPE = 50, 3, (8, 8, 1)


@pytest.fixture
def task(tmp_path: Path) -> FeedTask:
    """Fifty rows with metadata in eight shards, every fifth a validation row, for three workers."""
    source = add_metadata(make_source(train_rows=ROWS), {"camera": ["left", "right"]})
    manifest = write_dataset_without_ray(str(tmp_path), source, shard_rows=7)
    return FeedTask(
        dataset_uri=str(tmp_path),
        manifest=manifest,
        split_name="train",
        batch_size=12,
        validation_split=ValidationSplit.of(np.arange(ROWS) % 5 == 0),
        workers=WORKERS,
    )


def deal(task: FeedTask) -> list[list[pa.Table]]:
    """Runs the read task of every shard here; returns the blocks of each worker."""
    manifest: Manifest = task.manifest
    owners, first = row_owners(task), 0
    blocks: list[list[pa.Table]] = [[] for _ in range(WORKERS)]
    for index, shard in enumerate(task.split.shards):
        own = owners[first : first + shard.rows]
        rows, *parts = _read_and_deal(
            task.dataset_uri, manifest, whole_shard(index, shard), own, WORKERS, None
        )
        assert rows == shard.rows
        for rank, part in enumerate(parts):
            blocks[rank] += [part] if part is not None else []
        first += shard.rows
    return blocks


def iterator(tables: list[pa.Table]) -> Any:
    return SimpleNamespace(iter_batches=lambda **_: iter(tables))


def test_blocks_of_all_shards_give_the_batches_of_rows_that_are_read_here(task: FeedTask) -> None:
    for rank, tables in enumerate(deal(task)):
        own = dataclasses.replace(task, rank=rank)
        dealt = MemoryFeed(own, collect_rows(iterator(tables), SHAPE))
        here = build_feed(MemoryFeed, own)
        (batch,), (expected,) = dealt.epoch(1, 3, 3), here.epoch(1, 3, 3)
        for name in ("ids", "labels", "images"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
        validation = [rows.ids.tolist() for rows in dealt.validation_rows()]
        assert validation == [rows.ids.tolist() for rows in here.validation_rows()]


def test_blocks_hold_every_row_once_and_no_metadata(task: FeedTask) -> None:
    tables = [table for of_rank in deal(task) for table in of_rank]
    assert sorted(row for table in tables for row in table["id"].to_pylist()) == list(range(ROWS))
    assert {tuple(table.column_names) for table in tables} == {("id", "image", "label")}


def test_one_block_is_not_copied(task: FeedTask) -> None:
    (table, *_), *_ = deal(task)
    rows = collect_rows(iterator([table]), SHAPE)
    assert rows.images.ctypes.data == table["image"].chunk(0).buffers()[1].address


def test_a_worker_without_rows_receives_none() -> None:
    assert len(collect_rows(iterator([]), SHAPE)) == 0
