"""Put-if-absent keeps its promises on file systems without hard links."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Timer

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
    (tmp_path / ".object.creating-0").write_text("of a dead writer")
    assert files.create_bytes(str(tmp_path / "object"), b"x") is True
    assert os.listdir(tmp_path) == ["object"]


def test_exactly_one_of_many_writers_follows_one_that_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(no_links, "_ABANDONED_AFTER_S", 0.05)
    monkeypatch.setattr(no_links, "_PAUSE_S", 0.001)
    for attempt in range(40):
        target = tmp_path / str(attempt)
        for dead in range(attempt % 3):
            (tmp_path / f".{attempt}.creating-{dead}").write_text(f"dead writer {dead}")
        start = Barrier(8)

        def create(writer: int, target: Path = target, start: Barrier = start) -> bool:
            source = target.with_name(f".{target.name}-{writer}.tmp")
            source.write_text(str(writer))
            start.wait()
            try:
                return no_links.rename_if_absent(source, target)
            finally:
                source.unlink(missing_ok=True)

        with ThreadPoolExecutor(8) as pool:
            created = list(pool.map(create, range(8)))
        assert created.count(True) == 1
        assert target.read_text() == str(created.index(True))
    assert len(os.listdir(tmp_path)) == 40


def test_a_writer_whose_turn_was_taken_over_does_not_create(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped for longer than 10 s between its mark and its look; the next one is at work."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("slow")
    real_create = no_links._create

    def create(mark: Path, ticket: str) -> bool:
        created = real_create(mark, ticket)
        monkeypatch.setattr(no_links, "_create", real_create)
        (tmp_path / ".target.creating-1").write_text("the next writer")
        Timer(0.1, lambda: target.write_text("quick")).start()
        return created

    monkeypatch.setattr(no_links, "_create", create)
    assert no_links.rename_if_absent(source, target) is False
    assert (target.read_text(), source.read_text()) == ("quick", "slow")


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
