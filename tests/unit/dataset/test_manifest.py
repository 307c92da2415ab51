"""A manifest identifies its dataset; a damaged, changed or missing one is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.dataset.manifest import (
    Manifest,
    Shard,
    Split,
    load_manifest,
    shard_ranges,
)
from cnnlib.errors import DatasetError, InputError
from tests.datasets import TEST_ROWS, TRAIN_ROWS, make_source, write_dataset_without_ray


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of 50 train rows in five shards and 23 test rows in three."""
    write_dataset_without_ray(str(tmp_path / "dataset"))
    return tmp_path / "dataset"


def edit(dataset: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the stored manifest."""
    path = dataset / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_manifest_survives_storage(tmp_path: Path) -> None:
    written = write_dataset_without_ray(str(tmp_path))
    loaded = load_manifest(str(tmp_path))
    assert loaded == written
    assert loaded.fingerprint == written.fingerprint
    assert {name: split.rows for name, split in loaded.splits.items()} == {
        "train": TRAIN_ROWS,
        "test": TEST_ROWS,
    }
    assert [len(loaded.split(name).shards) for name in ("train", "test")] == [5, 3]
    assert sum(loaded.split("test").rows_per_class) == TEST_ROWS
    assert loaded.num_classes == 3


def test_stored_manifest_has_the_keys_that_were_promised(dataset: Path) -> None:
    document = json.loads((dataset / "manifest.json").read_text())
    assert set(document) == {
        "format_version", "class_names", "image_shape", "splits", "source", "source_digest", "fingerprint",
    }  # fmt: skip
    assert set(document["splits"]["train"]) == {"rows", "rows_per_class", "shards"}
    assert set(document["splits"]["train"]["shards"][0]) == {"name", "rows", "bytes", "sha256"}
    assert document["splits"]["train"]["shards"][4]["name"] == "train/part-00004.parquet"


def test_fingerprint_depends_neither_on_the_place_nor_on_the_words_about_the_source(tmp_path: Path) -> None:
    here, there = (write_dataset_without_ray(str(tmp_path / name)) for name in ("here", "there"))
    assert here.fingerprint == there.fingerprint
    assert dataclasses.replace(here, source="described otherwise").fingerprint == here.fingerprint
    assert len(here.fingerprint) == 64


def test_fingerprint_depends_on_everything_else(tmp_path: Path) -> None:
    manifest = write_dataset_without_ray(str(tmp_path))
    train = manifest.split("train")
    shard = dataclasses.replace(train.shards[0], sha256="0" * 64)
    others = [
        dataclasses.replace(manifest, class_names=("Coat", "Bag", "Boot")),
        dataclasses.replace(manifest, image_shape=(4, 16, 1)),
        dataclasses.replace(manifest, source_digest="0" * 64),
        dataclasses.replace(manifest, splits={"train": train}),
        dataclasses.replace(
            manifest,
            splits={
                **manifest.splits,
                "train": dataclasses.replace(train, shards=(shard, *train.shards[1:])),
            },
        ),
    ]
    assert len({each.fingerprint for each in [manifest, *others]}) == 6


def test_other_rows_or_other_shards_of_the_same_rows_are_another_data_set(tmp_path: Path) -> None:
    first = write_dataset_without_ray(str(tmp_path / "a"))
    other_rows = write_dataset_without_ray(str(tmp_path / "b"), make_source(seed=1))
    other_shards = write_dataset_without_ray(str(tmp_path / "c"), shard_rows=11)
    assert len({first.fingerprint, other_rows.fingerprint, other_shards.fingerprint}) == 3
    assert first.source_digest == other_shards.source_digest != other_rows.source_digest


def test_data_set_without_a_manifest_is_not_found(dataset: Path) -> None:
    (dataset / "manifest.json").unlink()
    with pytest.raises(DatasetError, match=r"No dataset at .*: it has no manifest\.json") as raised:
        load_manifest(str(dataset))
    assert f"jobs.prepare fashion-mnist --output {dataset}" in str(raised.value)


def test_tampered_manifest_is_refused(dataset: Path) -> None:
    edit(dataset, lambda document: document["class_names"].reverse())
    with pytest.raises(DatasetError, match="was changed after it was written"):
        load_manifest(str(dataset))


def test_unknown_format_version_is_refused(dataset: Path) -> None:
    edit(dataset, lambda document: document.update(format_version=2))
    with pytest.raises(DatasetError, match=r"has format_version 2\. This version reads 1\."):
        load_manifest(str(dataset))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("splits"),
        lambda document: document.pop("class_names"),
        lambda document: document.update(image_shape=28),
        lambda document: document.update(image_shape=[28, 28]),
        lambda document: document.update(splits=[]),
        lambda document: document["splits"]["train"].pop("rows"),
        lambda document: document["splits"]["train"]["shards"][0].pop("sha256"),
        lambda document: document["splits"]["train"]["shards"][0].update(colour="blue"),
        lambda document: document["splits"]["train"]["shards"][0].update(name=7),
        lambda document: document["splits"]["train"].update(rows=float("nan")),
    ],
    ids=[
        "no splits", "no class names", "shape a number", "shape of two", "splits a list", "no rows", "no sha256",
        "an unknown entry", "a name that is none", "rows that are no number",
    ],
)  # fmt: skip
def test_manifest_with_a_missing_or_invalid_entry_is_refused(
    dataset: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    edit(dataset, change)
    with pytest.raises(DatasetError, match="has a missing or invalid entry"):
        load_manifest(str(dataset))


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_manifest_that_is_no_json_object_is_refused(dataset: Path, text: str) -> None:
    (dataset / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json (is not JSON|holds a JSON)"):
        load_manifest(str(dataset))


def test_missing_split_names_the_nearest(dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"no split 'tests'\. Did you mean 'test'\? Known: test, train\."):
        load_manifest(str(dataset)).split("tests")


@given(sizes=st.lists(st.integers(0, 7), max_size=8), start=st.integers(0, 60), stop=st.integers(0, 60))
def test_shard_ranges_hold_exactly_the_requested_rows(sizes: list[int], start: int, stop: int) -> None:
    shards = [Shard(name=f"{index}", rows=rows, bytes=0, sha256="") for index, rows in enumerate(sizes)]
    positions = [(index, row) for index, rows in enumerate(sizes) for row in range(rows)]
    ranges = list(shard_ranges(shards, start, stop))
    found = [(each.shard_index, row) for each in ranges for row in range(each.start, each.stop)]
    assert found == positions[start:stop]
    assert all(each.start < each.stop and each.shard is shards[each.shard_index] for each in ranges)
    assert sum(each.rows for each in ranges) == len(found)


def test_bytes_of_a_split_are_the_sum_over_its_shards() -> None:
    shards = tuple(Shard(name="", rows=1, bytes=size, sha256="") for size in (5, 7))
    assert Split(rows=2, rows_per_class=(2,), shards=shards).num_bytes == 12


def test_manifest_is_immutable(dataset: Path) -> None:
    manifest: Manifest = load_manifest(str(dataset))
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.source = "another"  # type: ignore[misc]
