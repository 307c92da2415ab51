"""Finds the control groups of this process, in which a container has its limits of CPU and memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

MOUNT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


class GroupFolder(NamedTuple):
    """A folder that may have the files of a group; it need not exist.

    Attributes:
        version: of the groups, which decides the names of the files.
    """

    version: Literal[1, 2]
    path: Path


def iter_group_folders(
    controller: str, own_groups: Path = OWN_GROUPS, mount: Path = MOUNT
) -> Iterator[GroupFolder]:
    """Yields the folders of this process's groups and of those above them, whose limits count too.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, and https://docs.kernel.org/admin-guide/cgroup-v1/.

    Args:
        controller: its name in version 1, such as cpu or memory.
        own_groups: the file that names the groups of this process, a line ID:CONTROLLERS:PATH for each.
        mount: the folder where the groups are mounted.
    """
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2, which has one tree for all controllers
            yield from (GroupFolder(2, folder) for folder in _folders_up(mount, path))
        elif controller in controllers.split(","):
            for root in (mount / controllers, mount / controller):
                yield from (GroupFolder(1, folder) for folder in _folders_up(root, path))


def read_words(path: Path) -> list[str]:
    """Returns the words of a group's file; none if there is no such file."""
    try:
        return path.read_text().split()
    except OSError:
        return []


def _folders_up(root: Path, path: str) -> Iterator[Path]:
    """Yields the folder of a group and those above it, up to the root.

    Inside a container the path may be that of the host, which does not exist here: then the root is the container's.
    """
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])
