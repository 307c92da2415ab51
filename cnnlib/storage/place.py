"""Defines the protocol between `files` and the two kinds of storage: what a local path and an S3 key can both do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol


class StoredObject(NamedTuple):
    """An object that exists, its size, and a text that changes when its bytes are replaced (ETag or time of change)."""

    uri: str
    num_bytes: int
    version: str = ""


class Place(Protocol):
    """The object or folder that one URI names. `cnnlib.storage.files` says what each operation promises.

    Methods raise the errors of their own kind of storage; `local_errors` and `s3_errors` translate them.
    """

    def read_bytes(self) -> bytes:
        """Reads the object."""

    def read_range(self, first: int, num_bytes: int) -> bytes:
        """Reads at most so many bytes of the object, at least one, from the byte `first`, which it has."""

    def find_size(self) -> int | None:
        """Returns the object's size in bytes; None if there is no object."""

    def find_version(self) -> str | None:
        """Returns the version that a listing would give the object; None if there is no object."""

    def write_bytes(self, data: bytes) -> None:
        """Writes the object, or replaces it."""

    def create_bytes(self, data: bytes) -> bool:
        """Writes the object unless it exists; returns False if it exists."""

    def scan_objects(self, *, hidden: bool = False) -> Iterator[StoredObject]:
        """Yields the visible objects below this place, at any depth, in any order."""

    def scan_files(self) -> Iterator[str]:
        """Yields the names of the visible objects directly in this place, in any order."""

    def scan_folders(self) -> Iterator[str]:
        """Yields the names of the visible folders directly below this place, in any order."""

    def delete(self) -> None:
        """Deletes the object if it exists."""

    def download(self, path: Path) -> None:
        """Copies the object into a local file."""

    def upload(self, path: Path) -> None:
        """Copies a local file into the object."""

    def child(self, name: str) -> Place:
        """Returns the place of a name below this one."""

    def delete_leftovers(self) -> None:
        """Deletes old unfinished writes below this place, where a crash can leave any."""

    def restore_folders(self) -> AbstractContextManager[None]:
        """Removes, at its end, the empty folders that were created meanwhile above and at this place."""
