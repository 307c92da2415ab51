"""Puts a file if its name is absent, on file systems without hard links (FUSE, SMB, exFAT).

There, no single call makes a whole file visible and fails if the name is taken. So writers take turns: whoever creates
the hidden file `.NAME.creating`, which only one can, looks whether NAME is absent and renames its file to it.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

_ABANDONED_AFTER_S = 10.0  # a writer needs milliseconds between creating its mark and deleting it
_PAUSE_S = 0.01


def rename_if_absent(source: Path, target: Path) -> bool:
    """Renames a file to a name in the same folder, unless that name is taken; the target appears whole or not at all.

    A crash between two lines leaves the mark, which the next writer removes after 10 s; nobody reads it.

    Returns:
        Whether this call created the target; of several writers, exactly one does.
    """
    mark, ticket = target.with_name(f".{target.name}.creating"), secrets.token_hex(8)
    seen, seen_at = "", time.monotonic()
    while not target.exists():
        if _create(mark, ticket):
            try:
                if target.exists():  # since the look above, another writer had its turn
                    return False
                source.replace(target)
                return True
            finally:
                mark.unlink(missing_ok=True)
        holder = _read(mark)
        if holder != seen:
            seen, seen_at = holder, time.monotonic()
        elif holder and time.monotonic() - seen_at > _ABANDONED_AFTER_S and _read(mark) == holder:
            mark.unlink(missing_ok=True)
        time.sleep(_PAUSE_S)
    return False


def _create(mark: Path, ticket: str) -> bool:
    try:
        descriptor = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(ticket)
    return True


def _read(mark: Path) -> str:
    """Returns the ticket of the writer whose turn it is; "" if there is none."""
    with suppress(FileNotFoundError):
        return mark.read_text() or "being written"
    return ""
