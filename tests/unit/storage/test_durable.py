"""Local writes are on the disk before they get their name, and what a crash leaves behind goes after a day."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cnnlib.errors import StorageError
from cnnlib.storage import durable, files

DAY_S = 24 * 3600


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the disk, in order: the flush of a file or of a folder, and a new name."""
    calls: list[str] = []
    fsync, replace, hardlink_to = os.fsync, Path.replace, Path.hardlink_to

    def record_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        calls.append("folder " + path.name if path.is_dir() else "bytes")
        fsync(descriptor)

    def record_replace(self: Path, target: Any) -> Path:
        calls.append("name")
        return replace(self, target)

    def record_link(self: Path, target: Any) -> None:
        calls.append("name")
        hardlink_to(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    monkeypatch.setattr(Path, "hardlink_to", record_link)
    return calls


@pytest.mark.parametrize("how", ["write", "create", "upload"])
def test_bytes_come_before_the_name_and_the_folder_after_it(
    tmp_path: Path, calls: list[str], how: str
) -> None:
    uri = str(tmp_path / "a" / "b" / "object")
    source = tmp_path / "source"
    source.write_bytes(b"data")
    if how == "write":
        files.write_bytes(uri, b"data")
    elif how == "create":
        assert files.create_bytes(uri, b"data")
    else:
        files.upload(source, uri)
    assert sorted(calls[:2]) == sorted(["folder a", f"folder {tmp_path.name}"]), "the new folders themselves"
    assert calls[2:] == ["bytes", "name", "folder b"]
    assert files.read_bytes(uri) == b"data"


def test_a_file_system_that_cannot_flush_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(code: int) -> None:
        def fsync(descriptor: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fsync)

    fail(errno.EINVAL)
    files.write_bytes(str(tmp_path / "object"), b"data")
    assert files.read_bytes(str(tmp_path / "object")) == b"data"
    fail(errno.EIO)
    with pytest.raises(StorageError, match="The file system failed"):
        files.write_bytes(str(tmp_path / "other"), b"data")
    assert sorted(os.listdir(tmp_path)) == ["object"]


def test_unfinished_writes_go_after_a_day_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "a" / "checkpoints"
    folder.mkdir(parents=True)
    old = [f".{'0' * 16}.tmp", f".probe-{'a' * 16}", ".bashrc", "model.tmp", ".0123.tmp"]
    for name in [*old, f".{'1' * 16}.tmp"]:
        (folder / name).write_bytes(b"half")
    for name in old:
        os.utime(folder / name, (time.time() - DAY_S - 60,) * 2)
    files.check_writable(str(tmp_path / "runs"))
    assert sorted(os.listdir(folder)) == sorted([*old[2:], f".{'1' * 16}.tmp"])
    os.utime(folder / f".{'1' * 16}.tmp", (0, 0))
    monkeypatch.setattr(durable, "_MOST_FILES", 3)
    files.check_writable(str(tmp_path / "runs"))
    assert (folder / f".{'1' * 16}.tmp").exists(), "a folder of very many files is not searched"
