"""Handles URIs as strings: a local path, `file:///path` or `s3://bucket/prefix`. No I/O.

A mistyped URI is never taken for a local path: otherwise `s3:bucket` would become a folder of that name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from cnnlib.errors import ConfigError

# What begins like a URI: a scheme, then `:` or `;` or two slashes. A name with a colon, `run:1`, is a path.
_S3_LIKE = re.compile(r"s3[an]?(?:[:;.]?[/\\]{2,}|[:;])[/\\]*(.*)", re.IGNORECASE)
_FILE_LIKE = re.compile(r"file:[/\\]*(.*)", re.IGNORECASE)
_URI_LIKE = re.compile(r"([a-z][a-z0-9+.-]*):/(.*)|(gs|gcs|az|abfss?|https?|hdfs):(.*)", re.IGNORECASE)
_EXPECTED = "Expected a path, file:///path or s3://bucket/prefix."


class S3Location(NamedTuple):
    """A bucket and the key (or key prefix) in it; the key never starts or ends with a slash."""

    bucket: str
    key: str


def normalize_uri(uri: str) -> str:
    """Returns a URI in the one form that the project compares and stores: absolute, no trailing slash.

    A relative path becomes absolute, because Ray's workers run in another directory. A local folder whose name begins
    like a URI is written with a path before it: `./s3:data`.

    Raises:
        ConfigError: the URI is empty, mistyped, names a host, lacks its bucket, or has a scheme other than file and s3;
            or a path names the home folder of a user who does not exist.

    >>> normalize_uri("s3://bucket/some//prefix/")
    's3://bucket/some/prefix'
    """
    if not uri.strip():
        raise ConfigError("A URI is empty. Expected a path or s3://bucket/prefix.")
    if "\0" in uri:
        raise ConfigError(
            f"{uri!r} has a zero byte, which no path has. Expected a path or s3://bucket/prefix."
        )
    if is_s3(uri):
        return _normalize_s3(uri)
    if uri.startswith("file:///"):
        return str(Path(uri.removeprefix("file://")))
    _check_not_mistyped(uri)
    path = os.path.expanduser(uri)  # not Path.expanduser, which would expand ./~name too
    if path.startswith("~"):
        raise ConfigError(
            f"{uri!r} names the home folder of a user whom this machine does not know. Expected ~/path. A folder "
            f"whose own name begins with ~ is written as ./{uri}"
        )
    return str(Path(path).absolute())


def is_s3(uri: str) -> bool:
    """Returns whether a URI starts with `s3://`."""
    return uri.startswith("s3://")


def split_s3(uri: str) -> S3Location:
    """Splits `s3://bucket/key` into bucket and key; the key of a bucket itself is empty."""
    bucket, _, key = normalize_uri(uri).removeprefix("s3://").partition("/")
    return S3Location(bucket, key)


def _normalize_s3(uri: str) -> str:
    rest = uri.removeprefix("s3://")
    parts = [part for part in rest.split("/") if part]
    if not parts:
        raise ConfigError(f"{uri!r} has no bucket. Expected s3://bucket/prefix.")
    if rest.startswith("/"):
        raise _mistyped(uri, "has no bucket after its two slashes", "s3://" + "/".join(parts))
    return "s3://" + "/".join(parts)


def _check_not_mistyped(uri: str) -> None:
    """Raises a ConfigError for what begins like a URI, but is none that works here."""
    typed = uri.strip()
    if match := _S3_LIKE.fullmatch(typed):
        meant = "s3://" + match[1].strip("/\\")
        if meant == "s3://":
            raise ConfigError(f"{uri!r} has no bucket. Expected s3://bucket/prefix.")
        raise _mistyped(uri, "is neither a path nor an S3 URI", meant)
    if match := _FILE_LIKE.fullmatch(typed):
        problem = "names a host" if typed.lower().startswith("file://") else "lacks slashes"
        raise _mistyped(uri, problem, "file:///" + match[1].strip("/\\"))
    if match := _URI_LIKE.fullmatch(typed):
        scheme, rest = (match[1], match[2]) if match[1] else (match[3], match[4])
        if scheme.lower() in ("http", "https"):
            raise ConfigError(
                f"{uri!r} is a web address. {_EXPECTED} The address of an S3 server goes into AWS_ENDPOINT_URL."
            )
        bucket = rest.strip("/")
        hint = f" Did you mean s3://{bucket}?" if bucket else ""
        raise ConfigError(f"Unknown scheme in {uri!r}. {_EXPECTED}{hint} A folder is written as ./{typed}")


def _mistyped(uri: str, problem: str, meant: str) -> ConfigError:
    return ConfigError(
        f"{uri!r} {problem}. Did you mean {meant}? {_EXPECTED} A folder is written as ./{uri.strip()}"
    )


def join_uri(base: str, *parts: str) -> str:
    """Joins names below a base URI with single slashes.

    >>> join_uri("s3://bucket/runs/", "seed", "run.json")
    's3://bucket/runs/seed/run.json'
    """
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def uri_name(uri: str) -> str:
    """Returns the last part of a URI: the name of the file or folder."""
    return uri.rstrip("/").rsplit("/", 1)[-1]
