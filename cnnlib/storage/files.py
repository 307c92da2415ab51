"""Reads, writes and lists objects by URI, on local disks and on S3 alike: the project's only door to bytes.

Every function here keeps these promises:

- An object appears whole or not at all, and is replaced whole or not at all. It is on the disk when a function returns,
  so that a crash of the machine leaves no manifest of objects that are gone.
- A name that begins with a dot is an unfinished write or a probe: no listing shows it, nor what is below it.
- Requests are repeated here and nowhere else, for up to CNNLIB_STORAGE_WAIT_S seconds (`cnnlib.storage.patience`); an
  error that leaves this module is final and one of `cnnlib.errors`.
- Endpoint, region and credentials come from the environment, and only boto3, behind this module, reads them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnlib.errors import StorageError
from cnnlib.storage.local import LocalPlace, local_errors
from cnnlib.storage.place import Place, StoredObject
from cnnlib.storage.uri import is_s3, join_uri, normalize_uri, split_s3


def read_bytes(uri: str) -> bytes:
    """Reads an object.

    Raises:
        NotFoundError: there is no such object.
    """
    with _open_place(uri) as place:
        return place.read_bytes()


def read_range(uri: str, first: int, num_bytes: int) -> bytes:
    """Reads a part of an object.

    Args:
        first: the first byte, from 0. The object has it.
        num_bytes: how many; fewer come back where the object ends before.

    Raises:
        NotFoundError: there is no such object.
    """
    if num_bytes == 0:
        return b""
    with _open_place(uri) as place:
        return place.read_range(first, num_bytes)


def find_size(uri: str) -> int | None:
    """Returns an object's size in bytes; None if there is no object. A folder is not an object."""
    with _open_place(uri) as place:
        return place.find_size()


def find_object(uri: str) -> StoredObject | None:
    """Returns an object as a listing of its folder would; None if there is no object."""
    uri = normalize_uri(uri)
    with _open_place(uri) as place:
        size, version = place.find_size(), place.find_version()
    return None if size is None or version is None else StoredObject(uri, size, version)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes an object and replaces one that exists: readers see the old bytes or the new, never a mixture."""
    with _open_place(uri) as place:
        place.write_bytes(data)


def create_bytes(uri: str, data: bytes) -> bool:
    """Writes an object unless it exists (put-if-absent); of several writers exactly one creates it.

    Returns:
        True if this call created the object, also if the answer to its own first attempt was lost. False if it existed.
    """
    with _open_place(uri) as place:
        return place.create_bytes(data)


def list_objects(folder_uri: str, *, hidden: bool = False) -> list[StoredObject]:
    """Lists all objects below a folder, at any depth, sorted by URI; empty for a folder that does not exist.

    Args:
        hidden: True lists those, too, that begin with a dot or lie in such a folder.

    Follows symbolic links to folders. A folder's own zero-byte marker (`folder/`) is not an object.
    """
    with _open_place(folder_uri) as place:
        return sorted(place.scan_objects(hidden=hidden))


def list_files(folder_uri: str) -> list[str]:
    """Lists the names of the objects directly in a folder, sorted; empty for a folder that does not exist."""
    with _open_place(folder_uri) as place:
        return sorted(place.scan_files())


def list_folders(folder_uri: str) -> list[str]:
    """Lists the names of the folders directly below a folder, sorted; empty for a folder that does not exist."""
    with _open_place(folder_uri) as place:
        return sorted(place.scan_folders())


def delete(uri: str) -> None:
    """Deletes an object, but not its local folder. An object that does not exist is not an error."""
    with _open_place(uri) as place:
        place.delete()


def download(uri: str, path: Path) -> None:
    """Copies an object of any size into a local file and creates its folders; a crash may leave half a file."""
    with local_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_place(uri) as place:
            place.download(path)


def upload(path: Path, uri: str) -> None:
    """Copies a local file of any size into an object and replaces one that exists.

    A crash on S3 leaves the parts sent so far: invisible, but billed until the bucket's lifecycle rule
    for incomplete multipart uploads removes them.
    """
    with local_errors(str(path)), _open_place(uri) as place:
        place.upload(path)


def check_writable(folder_uri: str) -> None:
    """Checks, by writing a probe and deleting it, that objects can be created (put-if-absent) below a folder.

    Also deletes what writes that a crash cut off more than a day ago have left in a local folder.
    Leaves nothing behind, neither the probe nor a local folder that did not exist. A crash in between leaves
    an object named `.probe-*`, which no listing shows.

    Raises:
        AccessError: the credentials, the user's permissions or the bucket do not allow it.
        StorageError: the storage cannot be reached, or ignores put-if-absent.
    """
    with _open_place(folder_uri) as folder, folder.restore_folders():
        probe = folder.child(f".probe-{secrets.token_hex(8)}")
        probe.create_bytes(b"probe")
        try:
            overwritten = probe.create_bytes(b"probe")
        finally:
            probe.delete()
        folder.delete_leftovers()
    if overwritten:
        raise StorageError(
            f"The storage behind {folder_uri} ignores put-if-absent (If-None-Match: *): it would overwrite "
            "results. Expected a server that honours it, as AWS S3 and SeaweedFS do. Update or replace it."
        )


@contextmanager
def hold_probe(folder_uri: str) -> Iterator[str]:
    """Creates a probe below a folder, yields its URI and deletes it; leaves nothing behind, as `check_writable`."""
    name = f".probe-{secrets.token_hex(8)}"
    with _open_place(folder_uri) as folder, folder.restore_folders():
        probe = folder.child(name)
        probe.create_bytes(b"probe")
        try:
            yield join_uri(folder_uri, name)
        finally:
            probe.delete()


@contextmanager
def _open_place(uri: str) -> Iterator[Place]:
    """Yields the place behind a URI; an error inside the context leaves it as one of `cnnlib.errors`."""
    uri = normalize_uri(uri)
    if is_s3(uri):
        from cnnlib.storage.s3 import S3Place, s3_errors  # imported here, because it loads boto3

        with s3_errors(uri):
            yield S3Place(*split_s3(uri))
    else:
        with local_errors(uri):
            yield LocalPlace(Path(uri))
