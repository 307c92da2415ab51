"""Tests that URIs are normalized, split and joined as strings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.errors import ConfigError
from cnnlib.storage.uri import is_s3, join_uri, normalize_uri, split_s3, uri_name

_NAMES = st.text("abcABC019._- é", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))


@pytest.mark.parametrize(
    ("uri", "normal"),
    [
        ("/data/runs", "/data/runs"),
        ("/data//runs/", "/data/runs"),
        ("file:///data/runs/", "/data/runs"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/some//prefix/", "s3://bucket/some/prefix"),
    ],
)
def test_every_spelling_of_a_place_normalizes_to_one(uri: str, normal: str) -> None:
    assert normalize_uri(uri) == normal


def test_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert normalize_uri("runs/seed") == str(tmp_path / "runs" / "seed")


def test_tilde_becomes_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert normalize_uri("~/runs") == "/home/somebody/runs"


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("s3://", "has no bucket"),
        ("s3://///", "has no bucket"),
        ("s3:", "has no bucket"),
        ("S3://", "has no bucket"),
        ("gs:/", "Unknown scheme"),
        ("http://host:8333/bucket", r"is a web address.*AWS_ENDPOINT_URL"),
        ("HTTPS://bucket.s3.amazonaws.com/x", "is a web address"),
        ("~nobody-of-that-name/runs", "a user whom this machine does not know"),
    ],
)
def test_uri_that_cannot_work_is_refused_with_the_expected_form(uri: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        normalize_uri(uri)
    assert "Expected" in str(raised.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("s3:/bucket/x", "s3://bucket/x"),
        ("s3:bucket", "s3://bucket"),
        ("s3:///bucket/x", "s3://bucket/x"),
        ("s3//bucket/x", "s3://bucket/x"),
        ("s3;//bucket/x", "s3://bucket/x"),
        ("s3.//bucket/x", "s3://bucket/x"),
        (r"s3:\\bucket", "s3://bucket"),
        ("S3://bucket/x/", "s3://bucket/x"),
        ("S3:bucket", "s3://bucket"),
        ("s3a://bucket/x", "s3://bucket/x"),
        (" s3://bucket/x", "s3://bucket/x"),
        ("gs://bucket/x", "s3://bucket/x"),
        ("GS:/bucket/x", "s3://bucket/x"),
        ("gs:bucket/x", "s3://bucket/x"),
        ("s4://bucket/x", "s3://bucket/x"),
        ("ss3:/bucket", "s3://bucket"),
        ("file:/data/x", "file:///data/x"),
        ("file:data", "file:///data"),
        ("file://data/x", "file:///data/x"),
        ("FILE:///data/x", "file:///data/x"),
    ],
)
def test_mistyped_uri_is_no_folder_and_the_error_names_what_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError) as raised:
        normalize_uri(typed)
    assert f"Did you mean {meant}?" in str(raised.value)
    assert "Expected a path, file:///path or s3://bucket/prefix." in str(raised.value)


@pytest.mark.parametrize(
    "path",
    [
        "./s3:bucket",
        "./s3:/bucket",
        "./gs://x",
        "run:1",
        "runs/s3:x",
        "s3",
        "s3/x",
        "s3data",
        "12:30",
        "./~a",
    ],
)
def test_folder_with_a_colon_or_a_name_like_a_scheme_is_a_path(path: str) -> None:
    assert normalize_uri(path) == str(Path(path).absolute())


@given(names=st.lists(_NAMES, min_size=1, max_size=4), slashes=st.integers(1, 3))
def test_normalizing_an_s3_uri_again_changes_nothing(names: list[str], slashes: int) -> None:
    uri = normalize_uri("s3://" + ("/" * slashes).join(names) + "/" * slashes)
    assert uri == normalize_uri(uri) == "s3://" + "/".join(names)


@given(bucket=_NAMES, names=st.lists(_NAMES, max_size=4))
def test_joined_s3_uri_splits_into_its_parts(bucket: str, names: list[str]) -> None:
    uri = join_uri(f"s3://{bucket}", *names)
    assert split_s3(uri) == (bucket, "/".join(names))
    assert uri_name(uri) == [bucket, *names][-1]


def test_join_puts_single_slashes_between_names() -> None:
    assert join_uri("/data/", "/runs/", "seed/run.json") == "/data/runs/seed/run.json"


def test_only_the_s3_scheme_is_s3() -> None:
    assert is_s3("s3://bucket/key")
    assert not is_s3("/s3://bucket/key")
    assert not is_s3("s3")
