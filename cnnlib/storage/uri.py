"""Handles URIs as strings: a local path, `file:///path` or `s3://bucket/prefix`. No I/O."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cnnlib.errors import ConfigError

_SCHEMES = ("file", "s3")


class S3Location(NamedTuple):
    """A bucket and the key (or key prefix) in it; the key never starts or ends with a slash."""

    bucket: str
    key: str


def normalize_uri(uri: str) -> str:
    """Returns a URI in the one form that the project compares and stores: absolute, no trailing slash.

    A relative path becomes absolute, because Ray's workers run in another directory.

    Raises:
        ConfigError: the URI is empty, names a host, lacks its bucket, or has a scheme other than file and s3.

    >>> normalize_uri("s3://bucket/some//prefix/")
    's3://bucket/some/prefix'
    """
    if not uri.strip():
        raise ConfigError("A URI is empty. Expected a path or s3://bucket/prefix.")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return str(Path(uri).expanduser().absolute())
    if scheme not in _SCHEMES:
        raise ConfigError(f"Unknown scheme in {uri!r}. Expected a path, file:///path or s3://bucket/prefix.")
    if scheme == "file":
        if not rest.startswith("/"):
            raise ConfigError(f"{uri!r} names a host. Expected three slashes: file:///path.")
        return str(Path(rest))
    parts = [part for part in rest.split("/") if part]
    if not parts or rest.startswith("/"):
        raise ConfigError(f"{uri!r} has no bucket. Expected s3://bucket/prefix.")
    return "s3://" + "/".join(parts)


def is_s3(uri: str) -> bool:
    """Returns whether a URI starts with `s3://`."""
    return uri.startswith("s3://")


def split_s3(uri: str) -> S3Location:
    """Splits `s3://bucket/key` into bucket and key; the key of a bucket itself is empty."""
    bucket, _, key = normalize_uri(uri).removeprefix("s3://").partition("/")
    return S3Location(bucket, key)


def join_uri(base: str, *parts: str) -> str:
    """Joins names below a base URI with single slashes.

    >>> join_uri("s3://bucket/runs/", "seed", "run.json")
    's3://bucket/runs/seed/run.json'
    """
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def uri_name(uri: str) -> str:
    """Returns the last part of a URI: the name of the file or folder."""
    return uri.rstrip("/").rsplit("/", 1)[-1]
