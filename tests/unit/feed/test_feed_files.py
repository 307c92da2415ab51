"""Tests both feeds on real shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.manifest import load_manifest
from cnnlib.errors import DatasetError
from cnnlib.feed.feed import Cache, Feed, FeedTask
from cnnlib.feed.index import index_rows
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.stream import StreamFeed
from tests.datasets import make_source, write_dataset_without_ray

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


def _build(kind: type[Feed], folder: Path) -> Feed:
    manifest = load_manifest(str(folder))
    cache: Cache = "memory" if kind is MemoryFeed else "none"
    index = index_rows(str(folder), manifest, "train", fraction=0.2, seed=0, cache=cache)
    task = FeedTask(
        dataset_uri=str(folder),
        manifest=manifest,
        split_name="train",
        batch_size=8,
        validation_split=index.validation_split,
        pieces_per_shard=index.pieces_per_shard,
    )
    return kind(task)  # type: ignore[call-arg]
