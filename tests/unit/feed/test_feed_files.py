"""Tests both feeds on real shards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlib.dataset.manifest import load_manifest
from cnnlib.errors import DatasetError, RowCountError
from cnnlib.feed.feed import Cache, Feed, FeedTask
from cnnlib.feed.index import index_rows
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.stream import StreamFeed
from cnnlib.storage import layout, publish
from tests.datasets import make_source, write_dataset_without_ray
from tests.feeds import build_feed

kinds = pytest.mark.parametrize("kind", [MemoryFeed, StreamFeed])


@kinds
def test_rows_of_real_shards_arrive_as_they_were_written(kind: type[Feed], tmp_path: Path) -> None:
    source = make_source(train_rows=50)
    write_dataset_without_ray(str(tmp_path), source, shard_rows=7)
    feed = _build(kind, tmp_path)
    (batch,) = feed.epoch(1, 5, 5)
    ids = batch.ids.ravel()
    written = source.splits["train"]
    np.testing.assert_array_equal(batch.images.reshape(40, 8, 8, 1), written.images[ids])
    np.testing.assert_array_equal(batch.labels.ravel(), written.labels[ids])
    assert (batch.images.dtype, batch.labels.dtype) == (np.uint8, np.int32)


@kinds
def test_a_shard_that_changed_is_refused(kind: type[Feed], tmp_path: Path) -> None:
    write_dataset_without_ray(str(tmp_path), make_source(train_rows=50), shard_rows=7)
    shard = tmp_path / "train" / "part-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DatasetError, match="does not match its manifest"):
        list(_build(kind, tmp_path).epoch(1, 5, 5))


@kinds
def test_a_shard_with_fewer_rows_than_the_manifest_states_is_refused(
    kind: type[Feed], tmp_path: Path
) -> None:
    manifest = write_dataset_without_ray(str(tmp_path), make_source(train_rows=50), shard_rows=7)
    split = manifest.split("train")
    # The digests are right, so only counting finds it.
    shards = (*split.shards[:-1], dataclasses.replace(split.shards[-1], rows=split.shards[-1].rows + 1))
    longer = dataclasses.replace(split, rows=51, shards=shards)
    manifest = dataclasses.replace(manifest, splits={**manifest.splits, "train": longer})
    (tmp_path / layout.MANIFEST).unlink()
    publish.write_manifest(layout.dataset_manifest(str(tmp_path)), manifest.to_json())
    with pytest.raises(RowCountError, match=r"has 1 rows, expected 2 as the manifest states\. Prepare"):
        list(_build(kind, tmp_path, fraction=0.0).epoch(1, 6, 6))


def test_a_worker_that_receives_too_few_rows_trains_on_none_of_them(tmp_path: Path) -> None:
    write_dataset_without_ray(str(tmp_path), make_source(train_rows=50), shard_rows=7)
    feed = _build(MemoryFeed, tmp_path)
    with pytest.raises(
        RowCountError, match=r"Worker 0 received 49 of the 50 rows of the split train, expected 50\."
    ):
        MemoryFeed(feed._task, feed._rows.slice(0, 49))


def _build(kind: type[Feed], folder: Path, fraction: float = 0.2) -> Any:
    manifest = load_manifest(str(folder))
    cache: Cache = "memory" if kind is MemoryFeed else "none"
    index = index_rows(str(folder), manifest, "train", fraction=fraction, seed=0, cache=cache)
    task = FeedTask(
        dataset_uri=str(folder),
        manifest=manifest,
        split_name="train",
        batch_size=8,
        validation_split=index.validation_split,
        pieces_per_shard=index.pieces_per_shard,
    )
    return build_feed(kind, task)
