"""A disk that is full, or a folder that refuses: a clear error, what was there stays, and nothing half is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnnlib.errors import AccessError, StorageError
from cnnlib.runs import checkpoints as runs
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri
from tests.checkpoints import write_checkpoint_without_model
from tests.full_disk import files_of_at_most, folder_for_all, read_only

LARGE = bytes(range(256)) * 400
Write = Callable[[str], Any]


WRITES: dict[str, Write] = {
    "write": lambda uri: files.write_bytes(uri, LARGE),
    "create": lambda uri: files.create_bytes(f"{uri}-new", LARGE),
    "upload": lambda uri: files.upload(Path(uri).parent.parent / "source", uri),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with one object, `deep/old`, and a large file beside it."""
    with folder_for_all() as folder:
        (folder / "source").write_bytes(LARGE)
        files.write_bytes(str(folder / "deep" / "old"), b"old")
        yield folder


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_object_for_which_there_is_no_room_leaves_the_old_one_and_nothing_else(
    folder: Path, write: Write
) -> None:
    uri = str(folder / "deep" / "old")
    with (
        files_of_at_most(4096),
        pytest.raises(StorageError, match=f"The file system failed at {uri}.*free space"),
    ):
        write(uri)
    assert files.read_bytes(uri) == b"old"
    assert os.listdir(folder / "deep") == ["old"]
    assert files.create_bytes(f"{uri}-new", LARGE) is True
    files.write_bytes(uri, LARGE)
    assert files.read_bytes(uri) == LARGE


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_folder_that_refuses_is_named_and_stays_as_it_is(folder: Path, write: Write) -> None:
    uri = str(folder / "deep" / "old")
    with (
        read_only(folder / "deep"),
        pytest.raises(AccessError, match=rf"Not permitted at {uri}.*that this user"),
    ):
        write(uri)
    assert os.listdir(folder / "deep") == ["old"]
    assert files.read_bytes(uri) == b"old"
    write(uri)


@pytest.mark.parametrize("check", [files.check_writable, lambda uri: files.hold_probe(uri).__enter__()])
def test_the_check_before_a_job_finds_both(folder: Path, check: Write) -> None:
    with read_only(folder / "deep"), pytest.raises(AccessError, match="Not permitted"):
        check(str(folder / "deep"))
    with files_of_at_most(1), pytest.raises(StorageError, match="free space"):
        check(str(folder / "deep"))
    assert os.listdir(folder / "deep") == ["old"]


def test_a_disk_that_fills_during_the_check_keeps_no_probe(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnlib.storage.local import LocalPlace

    create = LocalPlace.create_bytes
    monkeypatch.setattr(
        LocalPlace, "create_bytes", lambda self, data: create(self, LARGE if self.path.exists() else data)
    )
    with files_of_at_most(4096), pytest.raises(StorageError, match="free space"):
        files.check_writable(str(folder / "deep"))
    assert os.listdir(folder / "deep") == ["old"]


def test_a_checkpoint_for_which_there_is_no_room_is_none_and_the_one_before_serves(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    write_checkpoint_without_model(run, 1)
    paths = {name: tmp_path / name for name in (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_STATE)}
    paths[layout.CHECKPOINT_MODEL].write_bytes(b"model")
    paths[layout.CHECKPOINT_STATE].write_bytes(LARGE)
    manifest = publish.read_manifest(join_uri(layout.checkpoint_uri(run, 1), layout.MANIFEST))
    described = {
        name: {"bytes": path.stat().st_size, "sha256": publish.sha256_of_file(path)}
        for name, path in paths.items()
    }
    second = layout.checkpoint_uri(run, 2)
    with files_of_at_most(4096), pytest.raises(StorageError, match=f"{second}/{layout.CHECKPOINT_STATE}"):
        publish.publish_files(second, paths, manifest | {"epoch": 2, "files": described})
    assert os.listdir(second) == [layout.CHECKPOINT_MODEL], "the model had room"
    [left] = runs.list_checkpoints(run)
    assert left.epoch == 1
    publish.read_checked(left.model_uri, left.digest)
    assert publish.publish_files(second, paths, manifest | {"epoch": 2, "files": described}) is True
    assert [each.epoch for each in runs.list_checkpoints(run)] == [1, 2]
    assert publish.read_checked(join_uri(second, layout.CHECKPOINT_STATE), publish.sha256_hex(LARGE)) == LARGE
