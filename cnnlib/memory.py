"""Tells how much memory is free for this process: of the machine, at most up to the limit of its container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cnnlib.cgroups import MOUNT, OWN_GROUPS, GroupFolder, iter_group_folders, read_words

_MEMINFO = Path("/proc/meminfo")
_KIB = 1024


def find_free_memory(
    meminfo: Path = _MEMINFO, own_groups: Path = OWN_GROUPS, mount: Path = MOUNT
) -> int | None:
    """Returns the bytes that this process can still take without swapping; None: this system does not tell.

    It is what the kernel states as available, or less if a container has less left: its limit less what it uses, where
    files that were cached and not used again do not count.
    Source: https://docs.kernel.org/filesystems/proc.html (MemAvailable) and
    https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max, memory.current, memory.stat).

    Args:
        meminfo: the file that states the memory of the machine.
        own_groups, mount: see `iter_group_folders`.
    """
    available = read_fields(meminfo).get("MemAvailable")
    if available is None:
        return None
    folders = iter_group_folders("memory", own_groups, mount)
    return max(0, min([available * _KIB, *(left for folder in folders for left in _read_left(folder))]))


def read_fields(path: Path) -> dict[str, int]:
    """Returns the numbers of a file of the kernel with a line `Name: 123 kB` or `name 123` for each; empty: no file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = [line.replace(":", " ").split() for line in lines]
    return {each[0]: int(each[1]) for each in words if len(each) > 1 and each[1].isdecimal()}


def _read_left(folder: GroupFolder) -> Iterator[int]:
    names = (
        ("memory.max", "memory.current", "inactive_file")
        if folder.version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    limit, used = (read_words(folder.path / name) for name in names[:2])
    if limit and used and limit[0] != "max":
        cached = read_fields(folder.path / "memory.stat").get(names[2], 0)
        yield int(limit[0]) - int(used[0]) + cached
