"""Makes results visible: objects first, their manifest last, and the manifest only once.

What has no manifest does not exist for a reader. So a crash before the last line of any function here leaves
garbage that nobody reads and the next attempt deals with; a crash after it leaves a whole result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlib.errors import ConflictError, InputError
from cnnlib.storage.files import create_bytes, find_size, read_bytes, upload
from cnnlib.storage.layout import MANIFEST
from cnnlib.storage.uri import join_uri


def write_manifest(uri: str, document: Mapping[str, Any]) -> bool:
    """Writes a manifest for objects that are already in place, unless it exists.

    A crash before it leaves objects without a manifest. There is no halfway: one object appears whole.

    Returns:
        True if this call wrote it, False if the same manifest was there.

    Raises:
        ConflictError: another manifest was there. Nothing was changed.
    """
    data = canonical_json(document)
    if create_bytes(uri, data):
        return True
    stored, wanted, absent = read_manifest(uri), json.loads(data), object()
    differing = sorted(key for key in stored | wanted if stored.get(key, absent) != wanted.get(key, absent))
    if differing:
        raise ConflictError(
            f"{uri} already describes something else: it differs in {', '.join(differing)}. Expected a free "
            "name or the very same content. Choose another place, or delete what is there."
        )
    return False


def read_manifest(uri: str) -> dict[str, Any]:
    """Reads a manifest.

    Raises:
        NotFoundError: there is none.
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


def publish_files(folder_uri: str, files: Mapping[str, Path], manifest: Mapping[str, Any]) -> bool:
    """Uploads local files under their names into a folder, then writes the folder's manifest.

    While there is no manifest, what is in the folder is a dead attempt's and is replaced: a crash between
    two uploads leaves such files. Once there is a manifest, no file is touched. Two attempts that live at the
    same time may mix their files; the digests in the manifest tell.

    Returns:
        True if this call wrote the manifest, False if the same one was there.

    Raises:
        ConflictError: another manifest was there. Nothing was changed.
    """
    manifest_uri = join_uri(folder_uri, MANIFEST)
    if find_size(manifest_uri) is None:
        for name, path in files.items():
            upload(path, join_uri(folder_uri, name))
    return write_manifest(manifest_uri, manifest)


def canonical_json(document: Mapping[str, Any]) -> bytes:
    r"""Returns the one JSON text of a document: keys sorted, two spaces, UTF-8, a newline at the end.

    Raises:
        ValueError: a float is NaN or infinite, which JSON cannot say.

    >>> canonical_json({"b": 1, "a": [True, None]}).decode()
    '{\n  "a": [\n    true,\n    null\n  ],\n  "b": 1\n}\n'
    """
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def sha256_hex(data: bytes) -> str:
    """Returns the SHA-256 digest as 64 hexadecimal digits.

    >>> sha256_hex(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()
