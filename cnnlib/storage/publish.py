"""Publishes results: objects first, their manifest last and only once. Reads objects by the digest in a manifest.

Readers ignore an object that no manifest names. So a crash before the last line of any function here leaves
objects that nobody reads and the next attempt replaces; a crash after it leaves a complete result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlib.errors import ConflictError, DigestError, InputError
from cnnlib.storage.files import create_bytes, download, find_size, read_bytes, upload
from cnnlib.storage.layout import MANIFEST
from cnnlib.storage.uri import join_uri


def write_manifest(uri: str, document: Mapping[str, Any]) -> bool:
    """Writes a manifest for objects that are already stored, unless it exists.

    A crash before the write leaves objects without a manifest; the manifest itself appears whole.

    Returns:
        True if this call wrote it, False if the same manifest existed.

    Raises:
        ConflictError: another manifest exists. Nothing was changed.
    """
    data = canonical_json(document)
    if create_bytes(uri, data):
        return True
    stored, expected, absent = read_manifest(uri), json.loads(data), object()
    differing = sorted(
        key for key in stored | expected if stored.get(key, absent) != expected.get(key, absent)
    )
    if differing:
        raise ConflictError(
            f"{uri} already describes something else: it differs in {', '.join(differing)}. Expected no manifest "
            "there, or the same one. Choose another name or folder, or delete what is there."
        )
    return False


def read_manifest(uri: str) -> dict[str, Any]:
    """Reads a manifest.

    Raises:
        NotFoundError: it does not exist.
        InputError: it is not a JSON object.
    """
    data = read_bytes(uri)
    try:
        document = json.loads(data)
    except ValueError as err:
        raise InputError(f"{uri} is not JSON: {err}. Expected a manifest written by this project.") from err
    if not isinstance(document, dict):
        raise InputError(
            f"{uri} holds a JSON {type(document).__name__}. Expected an object, written by this project."
        )
    return document


def entry(document: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """Returns an entry of a manifest that must be of one of these kinds; `type(None)` allows null.

    Raises:
        KeyError: there is no such entry.
        TypeError: it is of another kind.

    >>> entry({"rows": 3}, "rows", int)
    3
    """
    value = document[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{name} is {value!r}, expected {expected}")
    return value


def publish_files(folder_uri: str, files: Mapping[str, Path], manifest: Mapping[str, Any]) -> bool:
    """Uploads local files under their names into a folder, then writes the folder's manifest.

    Files in a folder without a manifest come from an attempt that crashed between two uploads; they are replaced.
    Files in a folder with a manifest are never changed. Two attempts at the same time may mix their files; the
    digests in the manifest reveal it.

    Returns:
        True if this call wrote the manifest, False if the same manifest existed.

    Raises:
        ConflictError: another manifest exists. Nothing was changed.
    """
    manifest_uri = join_uri(folder_uri, MANIFEST)
    if find_size(manifest_uri) is None:
        for name, path in files.items():
            upload(path, join_uri(folder_uri, name))
    return write_manifest(manifest_uri, manifest)


def read_checked(uri: str, sha256: str) -> bytes:
    """Reads an object and checks its digest.

    Args:
        sha256: the digest that the object's manifest states, as 64 hexadecimal digits.

    Raises:
        NotFoundError: there is no such object.
        DigestError: the object has another digest.
    """
    data = read_bytes(uri)
    _check_digest(uri, len(data), sha256_hex(data), expected=sha256)
    return data


def download_checked(uri: str, path: Path, sha256: str) -> None:
    """Copies an object of any size into a local file and checks its digest, in little memory.

    Args:
        sha256: the digest that the object's manifest states, as 64 hexadecimal digits.

    Raises:
        NotFoundError: there is no such object.
        DigestError: the object has another digest. The file stays.
    """
    download(uri, path)
    _check_digest(uri, path.stat().st_size, sha256_of_file(path), expected=sha256)


def canonical_json(document: Mapping[str, Any]) -> bytes:
    r"""Returns the one JSON text of a document: sorted keys, two spaces of indent, UTF-8, a newline at the end.

    Raises:
        ValueError: a float is NaN or infinite, which JSON cannot express.

    >>> canonical_json({"b": 1, "a": [True, None]}).decode()
    '{\n  "a": [\n    true,\n    null\n  ],\n  "b": 1\n}\n'
    """
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def sha256_hex(data: bytes) -> str:
    """Returns the SHA-256 digest of bytes as 64 hexadecimal digits.

    >>> sha256_hex(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Returns the SHA-256 digest of a local file as 64 hexadecimal digits; reads the file in small pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(uri: str, num_bytes: int, digest: str, *, expected: str) -> None:
    if digest != expected:
        raise DigestError(
            f"{uri} does not match its manifest. Received {num_bytes} bytes with sha256 {digest[:12]}…, "
            f"expected sha256 {expected[:12]}…."
        )
