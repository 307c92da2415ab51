"""Tests the plan of a dataset's shards, and the check of its output before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.dataset.writer import _plan_split, check_output, rows_per_shard, write_dataset
from cnnlib.errors import ConflictError, DatasetError, InputError
from tests.datasets import make_source, write_dataset_without_ray


@pytest.mark.parametrize(
    ("num_rows", "row_bytes", "shard_bytes", "expected"),
    [
        (60_000, 784, None, 5000),  # 47 MB in shards of at least 4 MiB: 12
        (10_000, 784, None, 5000),
        (100, 784, None, 100),
        (1_000_000, 3 * 224 * 224, None, 112),  # 150 GB in shards of at most 16 MiB: 8,973 of them
        (50_000, 3072, None, 3125),  # between the two limits: sixteen shards
        (610, 784, 100 * 784, 88),  # seven equal shards, not six full ones and a small last one
        (10, 784, 1, 1),
        (10, 784, 7840, 10),
    ],
)
def test_shards_have_as_many_rows_as_computed_by_hand(
    num_rows: int, row_bytes: int, shard_bytes: int | None, expected: int
) -> None:
    assert rows_per_shard(num_rows, row_bytes, shard_bytes) == expected


@given(num_rows=st.integers(1, 10_000), row_bytes=st.integers(1, 5000), shard_bytes=st.integers(1, 10**7))
def test_no_shard_is_larger_than_requested_unless_one_row_is(
    num_rows: int, row_bytes: int, shard_bytes: int
) -> None:
    rows = rows_per_shard(num_rows, row_bytes, shard_bytes)
    assert 1 <= rows <= num_rows
    assert (rows - 1) * row_bytes < shard_bytes


@given(num_rows=st.integers(1, 200), shard_bytes=st.integers(1, 3000))
def test_planned_shards_cover_every_row_once_in_order(num_rows: int, shard_bytes: int) -> None:
    split = SourceSplit(images=np.zeros((num_rows, 4, 4, 1), np.uint8), labels=np.zeros(num_rows, np.int32))
    source = Source(class_names=("a",), image_shape=(4, 4, 1), splits={"train": split}, description="")
    plan = _plan_split(source, "train", shard_bytes)
    rows = [row for item in plan for row in range(item.start, item.stop)]
    assert rows == list(range(num_rows))
    assert [(item.split, item.number) for item in plan] == [("train", index) for index in range(len(plan))]


def test_split_without_rows_is_refused() -> None:
    source = make_source(test_rows=0)
    with pytest.raises(DatasetError, match="The split 'test' of made up for a test has no rows"):
        _plan_split(source, "test", None)


def test_free_output_may_be_written_and_is_left_untouched(tmp_path: Path) -> None:
    assert check_output(make_source(), str(tmp_path / "new" / "dataset")) is None
    assert list(tmp_path.iterdir()) == []


def test_same_data_set_is_already_there(tmp_path: Path) -> None:
    write_dataset_without_ray(str(tmp_path))
    assert check_output(make_source(), str(tmp_path)) == load_manifest(str(tmp_path))


def test_a_lost_shard_is_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_dataset(make_source(), str(tmp_path), shard_bytes=2**10).manifest
    lost = tmp_path / manifest.split("train").shards[1].name
    content = lost.read_bytes()
    lost.write_bytes(content[:9] + bytes([content[9] ^ 1]) + content[10:])
    again = write_dataset(make_source(), str(tmp_path), shard_bytes=2**10)
    assert (again.created, again.manifest) == (True, manifest)
    assert lost.read_bytes() == content
    assert f"missing or damaged, and written again: 1, such as {lost.relative_to(tmp_path)}" in (
        capsys.readouterr().err
    )


def test_another_data_set_is_a_conflict(tmp_path: Path) -> None:
    write_dataset_without_ray(str(tmp_path))
    with pytest.raises(ConflictError, match=r"already holds another dataset \(made up for a test\)"):
        check_output(make_source(seed=1), str(tmp_path))


def test_same_rows_under_other_class_names_are_a_conflict(tmp_path: Path) -> None:
    write_dataset_without_ray(str(tmp_path))
    with pytest.raises(ConflictError, match="already holds another dataset"):
        check_output(make_source(class_names=("x", "y", "z")), str(tmp_path))


def test_shards_and_preview_of_an_interrupted_attempt_are_no_conflict(tmp_path: Path) -> None:
    write_dataset_without_ray(str(tmp_path))
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "preview.png").write_bytes(b"half a picture")
    assert check_output(make_source(), str(tmp_path)) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["notes.txt"], r"already holds something else: .*/notes\.txt\. Choose an empty --output"),
        (["train/cat.jpg"], r"something else: .*/train/cat\.jpg\."),
        (["validation/part-00000.parquet"], r"something else: .*/validation/part-00000\.parquet"),
        (["train/part-00000-tid-5-c000.parquet"], r"something else: .*/train/part-00000-tid-5-c000\.parquet"),
        (["a", "b", "c"], r"something else: .*/a and 2 more\."),
    ],
)
def test_output_that_holds_other_files_is_a_conflict(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
    with pytest.raises(ConflictError, match=message):
        check_output(make_source(), str(tmp_path))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == names


def test_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="A file and a folder are mixed up"):
        check_output(make_source(), str(tmp_path / "file" / "dataset"))
