"""Several jobs write to one folder at the same time: one dataset is published, and it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.reader import check_shards, read_positions
from cnnlib.dataset.source import Source
from cnnlib.dataset.writer import PreparedDataset, check_output, write_dataset
from cnnlib.errors import ConflictError
from cnnlib.storage import files, publish
from cnnlib.storage.uri import join_uri
from tests.datasets import make_source

SHARD_BYTES = 64 * 7  # seven rows


def assert_whole(folder: str, source: Source) -> None:
    """Checks that the folder holds this dataset, every row of it, its preview and nothing else."""
    manifest = load_manifest(folder)
    assert manifest.source_digest == source.digest
    for name, split in manifest.splits.items():
        check_shards(folder, manifest, name)
        rows = read_positions(folder, manifest, split, np.arange(split.rows))
        np.testing.assert_array_equal(rows.images, source.splits[name].images)
    shards = [shard.name for split in manifest.splits.values() for shard in split.shards]
    expected = sorted(join_uri(folder, name) for name in [*shards, "manifest.json", "preview.png"])
    assert [stored.uri for stored in files.list_objects(folder)] == expected


def interleave(monkeypatch: pytest.MonkeyPatch, between: Callable[[], object]) -> None:
    """Runs `between` once, at the worst moment: when the next writer has all its shards, but no manifest yet."""
    real_write = publish.write_manifest

    def write(uri: str, document: dict[str, object]) -> bool:
        monkeypatch.setattr(publish, "write_manifest", real_write)
        between()
        return real_write(uri, document)

    monkeypatch.setattr(publish, "write_manifest", write)


def test_another_source_does_not_touch_what_was_published_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first, second = str(tmp_path), make_source(), make_source(seed=1)
    interleave(monkeypatch, lambda: write_dataset(first, folder, SHARD_BYTES))
    with pytest.raises(ConflictError, match="already holds another dataset"):
        write_dataset(second, folder, SHARD_BYTES)
    assert_whole(folder, first)


@pytest.mark.parametrize("own_shard_bytes", [SHARD_BYTES, 2 * SHARD_BYTES])
def test_the_same_source_twice_at_once_is_one_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_shard_bytes: int
) -> None:
    folder, source = str(tmp_path), make_source()
    interleave(monkeypatch, lambda: write_dataset(source, folder, SHARD_BYTES))
    late = write_dataset(source, folder, own_shard_bytes)
    assert late == PreparedDataset(load_manifest(folder), created=False)
    assert_whole(folder, source)


def test_shards_that_appear_during_the_check_are_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, source, real_find = str(tmp_path), make_source(), files.find_size

    def find(uri: str) -> int | None:
        monkeypatch.setattr(files, "find_size", real_find)
        found = real_find(uri)
        write_dataset(source, folder)  # between the look for a manifest and the listing
        return found

    monkeypatch.setattr(files, "find_size", find)
    assert check_output(source, folder) is None
    assert write_dataset(source, folder).created is False


def test_two_threads_of_two_sources_leave_one_whole_dataset(tmp_path: Path) -> None:
    folder, sources = str(tmp_path / "new" / "folder"), [make_source(), make_source(seed=1)]

    def prepare(source: Source) -> bool:
        try:
            return write_dataset(source, folder, SHARD_BYTES).created
        except ConflictError:
            return False

    with ThreadPoolExecutor(2) as pool:
        created = list(pool.map(prepare, sources))
    assert sorted(created) == [False, True]
    assert_whole(folder, sources[created.index(True)])


def test_folder_that_a_check_removes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_mkdir, failed = os.mkdir, []

    def mkdir(path: str, *args: int) -> None:
        if not failed:
            failed.append(path)
            raise FileExistsError(path)  # it was there, and is removed before `Path.mkdir` looks at it
        real_mkdir(path, *args)

    monkeypatch.setattr(os, "mkdir", mkdir)
    files.write_bytes(str(tmp_path / "shared" / "object"), b"x")
    assert failed
    assert files.read_bytes(str(tmp_path / "shared" / "object")) == b"x"


def test_folder_that_a_check_removes_as_empty_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_mkdir, removed = Path.mkdir, []

    def mkdir(path: Path, *args: bool, **kwargs: bool) -> None:
        real_mkdir(path, *args, **kwargs)
        if not removed:
            removed.append(path)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    files.write_bytes(str(tmp_path / "shared" / "object"), b"x")
    assert removed
    assert files.read_bytes(str(tmp_path / "shared" / "object")) == b"x"
