"""Makes local writes survive a crash of the machine, and deletes what writes that were cut off have left behind.

A rename may reach the disk before the bytes of its file, and a manifest before the objects that it names. So a file is
flushed to the disk before it gets its name, and its folder after.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

_LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.tmp|\.probe-[0-9a-f]{16}")
_ABANDONED_AFTER_S = 24 * 3600.0
"""No write lasts a day; clocks of two machines that share a disk may differ by hours."""
_MOST_FILES = 20_000
# What file systems answer that cannot flush a folder: SMB, FUSE, folders shared with a virtual machine.
_CANNOT_SYNC = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES}
)


def temporary_name() -> str:
    """Returns the hidden name of a file that is being written."""
    return f".{secrets.token_hex(8)}.tmp"


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file whose bytes are on the disk when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        _sync(file.fileno())


def sync_file(path: Path) -> None:
    """Returns once the bytes of a file are on the disk."""
    with path.open("rb+") as file:
        _sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Returns once the names in a folder are on the disk, as far as the file system can tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):  # a folder may be writable and not readable
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def delete_leftovers(folder: Path) -> None:
    """Deletes, at any depth, unfinished writes that are older than a day. What cannot be deleted stays.

    Looks at a part of a folder that has very many files: a job should not wait for it.
    """
    seen = 0
    for place, _, names in os.walk(folder):
        if (seen := seen + len(names)) > _MOST_FILES:
            return
        for name in names:
            if _LEFTOVER.fullmatch(name):
                path = Path(place, name)
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                        path.unlink()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as err:
        if err.errno not in _CANNOT_SYNC:
            raise
