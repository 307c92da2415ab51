"""Rows are read from the shards that the manifest lists, and only if their bytes are those that it states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset import reader
from cnnlib.dataset.manifest import load_manifest, shard_ranges
from cnnlib.dataset.reader import check_shards, read_labels, read_positions, read_range, read_shard
from cnnlib.errors import DatasetError
from tests.datasets import TRAIN_ROWS, make_source, write_dataset_without_ray


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of 50 train rows in five shards and 23 test rows in three."""
    write_dataset_without_ray(str(tmp_path / "dataset"))
    return tmp_path / "dataset"


def test_shards_that_match_pass(dataset: Path) -> None:
    manifest = load_manifest(str(dataset))
    check_shards(str(dataset), manifest, "train")
    check_shards(str(dataset), manifest, "test")


def test_missing_shard_is_found_before_anything_starts(dataset: Path) -> None:
    manifest = load_manifest(str(dataset))
    (dataset / "train" / "part-00003.parquet").unlink()
    with pytest.raises(
        DatasetError, match=r"train/part-00003\.parquet is in the manifest but not in storage"
    ):
        check_shards(str(dataset), manifest, "train")
    check_shards(str(dataset), manifest, "test")


def _flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_shard_with_one_wrong_bit_is_refused(dataset: Path) -> None:
    manifest = load_manifest(str(dataset))
    _flip_last_byte(dataset / "train" / "part-00001.parquet")
    with pytest.raises(DatasetError, match=r"train/part-00001\.parquet does not match its manifest"):
        check_shards(str(dataset), manifest, "train")
    with pytest.raises(DatasetError, match="does not match its manifest"):
        read_shard(str(dataset), manifest.split("train").shards[1])
    assert read_shard(str(dataset), manifest.split("train").shards[0])


def test_big_split_has_only_its_sizes_checked_before_the_start(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(str(dataset))
    monkeypatch.setattr(reader, "PREFLIGHT_DIGEST_BYTES", manifest.split("train").num_bytes - 1)
    shards = [dataset / shard.name for shard in manifest.split("train").shards]
    _flip_last_byte(shards[0])
    check_shards(str(dataset), manifest, "train")
    shards[1].write_bytes(shards[1].read_bytes() + b"!")
    size = shards[1].stat().st_size
    with pytest.raises(DatasetError, match=rf"Received {size} bytes, expected {size - 1} bytes"):
        check_shards(str(dataset), manifest, "train")
    shards[1].unlink()
    with pytest.raises(DatasetError, match=rf"Received nothing, expected {size - 1} bytes"):
        check_shards(str(dataset), manifest, "train")


def test_labels_of_every_row_are_read_without_its_image(dataset: Path) -> None:
    read = read_labels(str(dataset), load_manifest(str(dataset)).split("train").shards)
    written = make_source().splits["train"]
    assert np.concatenate([ids for ids, _ in read]).tolist() == list(range(TRAIN_ROWS))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in read]), written.labels)


@pytest.mark.parametrize("positions", [range(TRAIN_ROWS), [49, 0, 10, 9, 31], [20], []])
def test_rows_are_read_in_the_order_of_the_positions(dataset: Path, positions: Sequence[int]) -> None:
    manifest = load_manifest(str(dataset))
    wanted = np.array(positions, np.int64)
    rows = read_positions(str(dataset), manifest, manifest.split("train"), wanted)
    written = make_source().splits["train"]
    assert rows.ids.tolist() == list(positions)
    np.testing.assert_array_equal(rows.images, written.images[wanted])
    np.testing.assert_array_equal(rows.labels, written.labels[wanted])
    assert (rows.images.dtype, rows.labels.dtype) == (np.uint8, np.int32)


def test_a_range_of_one_shard_is_read_only_if_the_whole_shard_is_intact(dataset: Path) -> None:
    manifest = load_manifest(str(dataset))
    (shard_range,) = shard_ranges(manifest.split("train").shards, 13, 17)
    assert read_range(str(dataset), manifest, shard_range).ids.tolist() == [13, 14, 15, 16]
    _flip_last_byte(dataset / shard_range.shard.name)
    with pytest.raises(DatasetError, match="does not match its manifest"):
        read_range(str(dataset), manifest, shard_range)
