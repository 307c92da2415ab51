"""Tests objects that are read by the digest in their manifest."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import pytest

from cnnlib.errors import DigestError, NotFoundError
from cnnlib.storage.publish import download_checked, read_checked, sha256_hex, sha256_of_file

DATA = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    path = tmp_path / "model.keras"
    path.write_bytes(DATA)
    return str(path)


def test_digests_are_sha256(tmp_path: Path, uri: str) -> None:
    assert sha256_hex(DATA) == sha256_of_file(Path(uri)) == DIGEST


def test_object_with_the_expected_digest_is_read(uri: str) -> None:
    assert read_checked(uri, DIGEST) == DATA


def test_object_with_the_expected_digest_is_downloaded(uri: str, tmp_path: Path) -> None:
    copy = tmp_path / "folder" / "copy"
    download_checked(uri, copy, DIGEST)
    assert copy.read_bytes() == DATA


def test_other_bytes_are_an_error_that_says_what_came_and_what_was_expected(uri: str, tmp_path: Path) -> None:
    expected = sha256_hex(b"other")
    message = (
        f"{uri} does not match its manifest. Received 256000 bytes with sha256 {DIGEST[:12]}…, "
        f"expected sha256 {expected[:12]}…."
    )
    for use in (read_checked, lambda uri, digest: download_checked(uri, tmp_path / "copy", digest)):
        with pytest.raises(DigestError) as raised:
            use(uri, expected)
        assert str(raised.value) == message


def test_absent_object_is_not_found(tmp_path: Path) -> None:
    uri = str(tmp_path / "absent")
    for use in (read_checked, lambda uri, digest: download_checked(uri, tmp_path / "copy", digest)):
        with pytest.raises(NotFoundError, match="absent"):
            use(uri, DIGEST)


def test_download_is_checked_without_the_file_in_memory(tmp_path: Path) -> None:
    data = bytes(8 * 2**20)
    (tmp_path / "big").write_bytes(data)
    digest = sha256_hex(data)
    tracemalloc.start()
    try:
        download_checked(str(tmp_path / "big"), tmp_path / "copy", digest)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20
