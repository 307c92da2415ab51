"""Puts a file if its name is absent, on file systems without hard links (FUSE, SMB, exFAT).

There, no single call makes a whole file visible and fails if the name is taken. So writers take turns: whoever creates
the hidden file `.NAME.creating-0`, its mark, which only one can, looks whether NAME is absent and renames its file to
it. The mark of a writer that died is never taken away while NAME is absent, because another writer might take away the
one that came after it. Instead, the next writer creates `.NAME.creating-1`: the highest number has the turn.
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

    A crash between two lines leaves the mark, which others go past after 10 s, and which is removed with the next
    success; nobody reads it.

    Returns:
        Whether this call created the target; of several writers, exactly one does.
    """
    ticket = secrets.token_hex(8)
    seen, seen_at = "", time.monotonic()
    while not target.exists():
        highest = _highest(target)
        holder = "" if highest is None else _read(_mark(target, highest))
        if holder != seen:
            seen, seen_at = holder, time.monotonic()
        is_abandoned = bool(holder) and time.monotonic() - seen_at > _ABANDONED_AFTER_S
        number = 0 if highest is None else highest + 1
        if (highest is None or is_abandoned) and _create(_mark(target, number), ticket):
            try:
                if target.exists():  # since the look above, another writer had its turn
                    return False
                if _highest(target) == number:
                    source.replace(target)
                    _remove_abandoned(target, number)
                    return True
            finally:
                _mark(target, number).unlink(missing_ok=True)
        time.sleep(_PAUSE_S)
    return False


def _mark(target: Path, number: int) -> Path:
    return target.with_name(f".{target.name}.creating-{number}")


def _numbers(target: Path) -> list[int]:
    start = _mark(target, 0).name.removesuffix("0")
    names = [name.removeprefix(start) for name in os.listdir(target.parent) if name.startswith(start)]
    return [int(name) for name in names if name.isdigit()]


def _highest(target: Path) -> int | None:
    return max(_numbers(target), default=None)


def _remove_abandoned(target: Path, number: int) -> None:
    """Removes the marks below a writer's own, while its own keeps others from creating any."""
    for each in _numbers(target):
        if each < number:
            _mark(target, each).unlink(missing_ok=True)


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
        return mark.read_text() or f"{mark.name} is being written"
    return ""
