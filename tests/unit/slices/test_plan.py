"""Tests the plan of slices: quantile edges from a sample of whole shards, and the hashes of the training images."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.dataset.manifest import Manifest, Shard, Split
from cnnlib.dataset.source import Source
from cnnlib.errors import ConfigError, DatasetError
from cnnlib.slices import plan as slice_plan
from cnnlib.slices.plan import check_slices, plan_slicer, quantile_edges, sample_shards
from cnnlib.slices.properties import measure
from cnnlib.slices.slicer import MAX_SLICES
from tests.datasets import add_metadata, make_source, write_dataset_without_ray

COLUMNS = {
    "source": ["web", "camera", None],
    "age": [*range(40), None],
    "level": [1, 2, 3, None],
    "indoors": [True, False],
}


def write(tmp_path: Path, source: Source | None = None) -> tuple[str, Manifest]:
    """Writes 50 training and 23 test rows with metadata, ten to a shard."""
    source = source or add_metadata(make_source(), COLUMNS)
    return str(tmp_path), write_dataset_without_ray(str(tmp_path), source)


def make_split(shards: int, rows_per_shard: int) -> Split:
    files = [Shard(name=str(index), rows=rows_per_shard, bytes=1, sha256="") for index in range(shards)]
    return Split(rows=shards * rows_per_shard, rows_per_class=(), shards=tuple(files))


@given(values=st.lists(st.integers(0, 9), min_size=1, max_size=60), quantiles=st.integers(2, 6))
def test_no_quantile_is_empty_and_quantiles_of_distinct_values_are_equal_in_size(
    values: list[int], quantiles: int
) -> None:
    edges = quantile_edges(np.array(values, float), quantiles)
    codes = np.searchsorted(edges, values, side="left")
    counts = np.bincount(codes, minlength=len(edges) + 1)
    assert len(edges) < quantiles
    assert (counts > 0).all()
    if len(set(values)) == len(values) >= quantiles:
        assert counts.max() - counts.min() <= 1
        assert len(counts) == quantiles


def test_a_property_that_is_the_same_everywhere_is_one_quantile() -> None:
    assert quantile_edges(np.full(10, 0.3), 4) == ()
    assert quantile_edges(np.array([np.nan, np.nan]), 4) == ()
    assert quantile_edges(np.array([np.nan, 1.0, 2.0, -np.inf, np.inf]), 2) == (1.0,)


def test_edges_of_a_small_split_come_from_all_its_rows(tmp_path: Path) -> None:
    source = add_metadata(make_source(), COLUMNS)
    slicer = plan_slicer(["brightness", "age"], 4, *write(tmp_path, source), "test")
    images = source.splits["test"].images
    assert slicer.edges["brightness"] == quantile_edges(measure("brightness", images), 4)
    assert slicer.edges["age"] == (5.0, 11.0, 17.0)  # ages 0..22
    assert slicer.train is None
    rows = source.splits["test"].read(0, 23)
    assert sorted(mask.sum() for name, mask in slicer.masks(rows).items() if "age" in name) == [5, 6, 6, 6]


def test_few_distinct_numbers_are_sliced_by_value_and_many_by_quantile(tmp_path: Path) -> None:
    slicer = plan_slicer(["source", "age", "level", "indoors"], 3, *write(tmp_path), "test")
    assert list(slicer.edges) == ["age"]


def test_training_images_are_read_for_near_duplicates_only(tmp_path: Path) -> None:
    uri, manifest = write(tmp_path)
    slicer = plan_slicer(["near-duplicate"], 4, uri, manifest, "test")
    train = make_source().splits["train"].read(0, 50)
    assert {name: mask.sum() for name, mask in slicer.masks(train).items()} == {"near-duplicate=yes": 50}
    for shard in manifest.split("train").shards:
        (tmp_path / shard.name).unlink()
    assert plan_slicer(["brightness"], 4, uri, manifest, "test").train is None
    with pytest.raises(
        DatasetError, match=r"train/part-00000\.parquet is in the manifest but not in storage"
    ):
        plan_slicer(["near-duplicate"], 4, uri, manifest, "test")


def test_a_sample_is_whole_shards_evenly_spaced_within_its_limits() -> None:
    small = make_split(7, 1000)
    assert sample_shards(small, row_bytes=784) == small.shards
    many_rows = make_split(100, 10_000)
    assert [shard.name for shard in sample_shards(many_rows, row_bytes=784)] == [
        str(index) for index in range(5, 100, 10)
    ]
    many_bytes = make_split(64, 1000)  # 16 MiB each
    chosen = sample_shards(many_bytes, row_bytes=16 * 2**20 // 1000)
    assert len(chosen) == 16
    assert len(set(chosen)) == 16
    assert len(sample_shards(make_split(3, 10**6), row_bytes=10**6)) == 1


def test_only_the_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, manifest = write(tmp_path)
    monkeypatch.setattr(slice_plan, "SAMPLE_ROWS", 8)  # one of three shards: the one in the middle
    first, middle, last = manifest.split("test").shards
    for other in (first, last):
        (tmp_path / other.name).unlink()
    slicer = plan_slicer(["brightness"], 2, uri, manifest, "test")
    read = make_source().splits["test"].images[10:20]
    assert slicer.edges == {"brightness": quantile_edges(measure("brightness", read), 2)}
    (tmp_path / middle.name).unlink()
    with pytest.raises(DatasetError, match="not in storage"):
        plan_slicer(["brightness"], 2, uri, manifest, "test")


def test_a_slicer_slices_the_same_after_pickling(tmp_path: Path) -> None:
    source = add_metadata(make_source(), COLUMNS)
    slicer = plan_slicer(["near-duplicate", "size", "source+indoors"], 3, *write(tmp_path, source), "test")
    rows = source.splits["test"].read(0, 23)
    masks, again = slicer.masks(rows), pickle.loads(pickle.dumps(slicer)).masks(rows)
    assert masks.keys() == again.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, again[name])


def test_too_many_slices_are_refused_before_any_row_is_scored(tmp_path: Path) -> None:
    columns = {"file": [f"{index}.png" for index in range(300)], "source": ["a", "b"]}
    source = add_metadata(make_source(test_rows=300), columns)
    uri, manifest = write(tmp_path, source)
    with pytest.raises(
        ConfigError, match=rf"file makes too many slices\. Received 300 .*at most {MAX_SLICES}"
    ):
        plan_slicer(["file"], 4, uri, manifest, "test")
    with pytest.raises(
        ConfigError, match=r"file\+source makes too many slices\. Received 600 pairs of values that may occur"
    ):
        plan_slicer(["file+source"], 4, uri, manifest, "test")


def test_near_duplicates_need_a_training_split_other_than_the_one_that_is_scored(tmp_path: Path) -> None:
    source = make_source()
    _, manifest = write(tmp_path / "both", source)
    with pytest.raises(ConfigError, match=r"Received split='train' itself\."):
        check_slices(["near-duplicate"], manifest, "train")
    only_test = Source(
        class_names=source.class_names,
        image_shape=source.image_shape,
        splits={"test": source.splits["test"]},
        description="",
    )
    _, manifest = write(tmp_path / "test", only_test)
    with pytest.raises(
        ConfigError, match=r"of the split 'train'\. Received a dataset with the splits test\."
    ):
        check_slices(["brightness+near-duplicate"], manifest, "test")
    assert check_slices(["brightness"], manifest, "test") == (("brightness",),)


def test_whole_numbers_that_float64_cannot_tell_apart_are_sliced_all_the_same(tmp_path: Path) -> None:
    times = [1_796_099_556_000_000_001 + 1_000_000_000 * row for row in range(40)]  # in nanoseconds
    uri, manifest = write(tmp_path, add_metadata(make_source(), {"at": times}))
    slicer = plan_slicer(["at"], 4, uri, manifest, "test")
    assert len(slicer.edges["at"]) == 3
