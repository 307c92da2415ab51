"""A dataset for which there is no room has no manifest, and the same call goes on; only a preview may be missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnlib.dataset.decode import ImageRules
from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.stream_writer import StreamOptions, run_in_threads, write_streamed
from cnnlib.dataset.verify import verify_dataset
from cnnlib.dataset.writer import PreparedDataset, write_dataset
from cnnlib.errors import AccessError, DatasetError, StorageError
from cnnlib.sources.folders import load_folders
from cnnlib.storage import files, layout, publish
from tests.datasets import make_source
from tests.full_disk import files_of_at_most, folder_for_all, read_only
from tests.image_files import write_folders

SHARD_BYTES = 64 * 40
Prepare = Callable[[str], PreparedDataset]


def from_memory(output: str) -> PreparedDataset:
    return write_dataset(make_source(train_rows=200, test_rows=30), output, SHARD_BYTES)


def streamed(output: str) -> PreparedDataset:
    source = load_folders(str(Path(output).parent / "images"), ImageRules(channels=1))
    return write_streamed(source, output, StreamOptions(shard_bytes=SHARD_BYTES), run_in_threads)


@pytest.mark.parametrize("prepare", [from_memory, streamed])
@pytest.mark.parametrize("largest", [500, 2500], ids=["no shard", "some shards"])
def test_shards_without_room_are_an_error_and_those_with_room_are_kept(
    tmp_path: Path, largest: int, prepare: Prepare
) -> None:
    output = str(tmp_path / "data")
    write_folders(tmp_path / "images", rows=100)
    with (
        files_of_at_most(largest),
        pytest.raises(StorageError, match=f"The file system failed at {output}/.*free space"),
    ):
        prepare(output)
    with pytest.raises(DatasetError, match="No dataset at"):
        load_manifest(output)
    shards = {Path(each.uri) for each in files.list_objects(output) if each.uri.endswith(".parquet")}
    for shard in shards:
        assert shard.stem.rpartition("-")[2] == publish.sha256_hex(shard.read_bytes())[:16], "it is whole"
    assert not list(Path(output).rglob("*.tmp"))
    prepared = prepare(output)
    assert prepared.created
    assert shards <= {Path(each.uri) for each in files.list_objects(output)}
    assert verify_dataset(output, prepared.manifest) == {
        name: split.rows for name, split in prepared.manifest.splits.items()
    }


@pytest.mark.parametrize("prepare", [from_memory, streamed])
def test_a_dataset_whose_preview_has_no_room_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prepare: Prepare
) -> None:
    output = str(tmp_path / "data")
    write_folders(tmp_path / "images", rows=100)
    with files_of_at_most(9000):
        prepared = prepare(output)
    assert prepared.created
    assert verify_dataset(output, prepared.manifest)
    assert files.find_size(layout.dataset_preview(output)) is None
    assert (
        'preview note="not written, and the dataset is complete: The file system failed'
        in capsys.readouterr().err
    )


def test_a_folder_that_refuses_is_named() -> None:
    with folder_for_all() as folder:
        (folder / "out").mkdir()
        with read_only(folder / "out"), pytest.raises(AccessError, match=f"Not permitted at {folder}/out: "):
            from_memory(str(folder / "out"))
        assert os.listdir(folder / "out") == []
        assert from_memory(str(folder / "out")).created
