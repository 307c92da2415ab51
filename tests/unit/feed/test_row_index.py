"""What all workers must agree on is found from the ids and labels of real shards."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.manifest import Manifest
from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.errors import DatasetError
from cnnlib.feed.feed import FeedTask
from cnnlib.feed.index import RowIndex, index_rows, is_mixed
from cnnlib.feed.stream import StreamFeed
from cnnlib.feed.validation import choose_validation_rows, count_validation_rows
from tests.datasets import make_source, write_dataset_without_ray
from tests.feeds import build_feed


def make_rows(labels: np.ndarray) -> Source:
    """Makes a source of 1x1 pixels with these labels in its train split."""
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    split = SourceSplit(images=images, labels=labels.astype(np.int32))
    return Source(
        class_names=tuple("abcdefghij"), image_shape=(1, 1, 1), splits={"train": split}, description="made up"
    )


def index(folder: Path, manifest: Manifest, fraction: float = 0.0) -> RowIndex:
    return index_rows(str(folder), manifest, "train", fraction=fraction, seed=0, cache="none")


@pytest.mark.parametrize("shard_rows", [7, 50])
def test_validation_rows_do_not_depend_on_the_shards(tmp_path: Path, shard_rows: int) -> None:
    source = make_source(train_rows=50)
    manifest = write_dataset_without_ray(str(tmp_path), source, shard_rows=shard_rows)
    labels = source.splits["train"].labels
    counts = count_validation_rows(np.bincount(labels).tolist(), 0.2)
    expected = choose_validation_rows(np.arange(50), labels, counts, seed=0)
    assert expected.sum() == 10
    np.testing.assert_array_equal(index(tmp_path, manifest, 0.2).validation_split.mask(0, 50), expected)


def test_shards_are_read_whole_where_their_rows_are_mixed(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).permutation(np.arange(4000) % 10)
    manifest = write_dataset_without_ray(str(tmp_path), make_rows(labels), shard_rows=400)
    assert index(tmp_path, manifest).pieces_per_shard == 1


@pytest.mark.parametrize(("shard_rows", "pieces"), [(4000, 256), (400, 26), (10, 1)])
def test_each_worker_gets_a_fair_share_of_streamed_rows_that_are_sorted_by_class(
    tmp_path: Path, shard_rows: int, pieces: int, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.sort(np.arange(4000) % 10)
    manifest = write_dataset_without_ray(str(tmp_path), make_rows(labels), shard_rows=shard_rows)
    found = index(tmp_path, manifest)
    assert found.pieces_per_shard == pieces
    assert ("the rows are not mixed" in capsys.readouterr().err) == (pieces > 1)
    task = FeedTask(
        dataset_uri=str(tmp_path),
        manifest=manifest,
        split_name="train",
        batch_size=40,
        validation_split=found.validation_split,
        pieces_per_shard=found.pieces_per_shard,
        workers=2,
    )
    for rank in range(2):
        (batch,) = build_feed(StreamFeed, dataclasses.replace(task, rank=rank)).epoch(1, 100, 100)
        proportions = np.bincount(batch.labels.ravel(), minlength=10) / batch.labels.size
        assert np.abs(proportions - 0.1).max() < 0.02


def test_shards_differ_by_chance_and_by_size() -> None:
    rng = np.random.default_rng(0)
    rows_per_class = [60_000] * 10
    fair = [rng.integers(0, 10, 20_000) for _ in range(16)]
    assert is_mixed(fair, rows_per_class)
    # A small difference is no reason to read shards in pieces, however certain it is.
    assert is_mixed([np.concatenate([fair[0], np.zeros(600, int)])], rows_per_class)
    assert not is_mixed([*fair, rng.integers(0, 9, 20_000)], rows_per_class)
    # A few rows of many classes differ by chance.
    assert is_mixed([rng.integers(0, 1000, 100) for _ in range(16)], [50] * 1000)
    assert not is_mixed([rng.integers(0, 2, 100)], [50] * 1000)


def test_a_shard_that_changed_is_refused(tmp_path: Path) -> None:
    manifest = write_dataset_without_ray(str(tmp_path), make_source(), shard_rows=7)
    shard = tmp_path / "train" / "part-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DatasetError, match="does not match its manifest"):
        index(tmp_path, manifest, 0.2)
