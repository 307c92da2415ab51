"""Put-if-absent keeps its promises on file systems without hard links."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnnlib.errors import StorageError
from cnnlib.storage import files, no_links


@pytest.fixture(params=["EPERM", "ENOTSUP", "ENOSYS", "EXDEV"])
def _no_hard_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch, getattr(errno, request.param))


@pytest.fixture
def _no_links_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch, errno.ENOTSUP)


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Makes every hard link fail, as such a file system does."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("_no_hard_links")
def test_object_is_created_once_and_nothing_else_is_left(tmp_path: Path) -> None:
    uri = str(tmp_path / "folder" / "once")
    assert files.create_bytes(uri, b"first") is True
    assert files.create_bytes(uri, b"second") is False
    assert files.read_bytes(uri) == b"first"
    assert os.listdir(tmp_path / "folder") == ["once"]


@pytest.mark.usefixtures("_no_links_at_all")
def test_exactly_one_of_many_writers_creates_an_object_and_no_reader_sees_half_of_it(tmp_path: Path) -> None:
    for attempt in range(5):
        uri = str(tmp_path / str(attempt))
        contents = [bytes([writer]) * 100_000 for writer in range(8)]

        def create(content: bytes, uri: str = uri) -> bool:
            created = files.create_bytes(uri, content)
            assert len(files.read_bytes(uri)) == 100_000
            return created

        with ThreadPoolExecutor(8) as pool:
            created = list(pool.map(create, contents))
        assert created.count(True) == 1
        assert files.read_bytes(uri) == contents[created.index(True)]
    assert len(os.listdir(tmp_path)) == 5


@pytest.mark.usefixtures("_no_links_at_all")
def test_folder_without_hard_links_is_writable_and_left_as_it_was(tmp_path: Path) -> None:
    files.check_writable(str(tmp_path / "new"))
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("_no_links_at_all")
def test_mark_of_a_writer_that_died_does_not_block_the_name_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(no_links, "_ABANDONED_AFTER_S", 0.05)
    (tmp_path / ".object.creating").write_text("of a dead writer")
    assert files.create_bytes(str(tmp_path / "object"), b"x") is True
    assert os.listdir(tmp_path) == ["object"]


def test_link_whose_answer_was_lost_counts_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_link = os.link

    def link_and_lose_the_answer(*args: str) -> None:
        real_link(*args)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", link_and_lose_the_answer)
    assert files.create_bytes(str(tmp_path / "object"), b"x") is True


def test_full_disk_is_no_missing_hard_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch, errno.ENOSPC)
    with pytest.raises(StorageError, match="free space"):
        files.create_bytes(str(tmp_path / "object"), b"x")
    assert os.listdir(tmp_path) == []
