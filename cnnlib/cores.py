"""Counts the CPU cores that this process may use: those of its affinity, at most the quota of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUP_MOUNT = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_V1_CONTROLLER = "cpu"


def num_cores() -> int:
    """Returns the number of cores that this process may use, at least 1. A quota of 1.5 cores counts as 2."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = find_cpu_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def find_cpu_quota(own_cgroups: Path = _OWN_CGROUPS, mount: Path = _CGROUP_MOUNT) -> float | None:
    """Returns the CPU quota of this process's container in cores; None: there is none.

    The quota of every group above the process's own counts too, so the smallest one is returned.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max), and for version 1
    https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us, cpu.cfs_period_us).

    Args:
        own_cgroups: the file that names the groups of this process.
        mount: the folder where the groups are mounted.
    """
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        return None  # not Linux
    quotas = [quota for line in lines for quota in _quotas_of_line(line, mount)]
    return min(quotas, default=None)


def _quotas_of_line(line: str, mount: Path) -> Iterator[float]:
    """Yields the quotas of the group in a line of /proc/self/cgroup, ID:CONTROLLERS:PATH, and of those above it."""
    _, controllers, path = line.split(":", 2)
    if not controllers:  # version 2, which has one tree for all controllers
        for folder in _folders_up(mount, path):
            yield from _read_v2_quota(folder)
    elif _V1_CONTROLLER in controllers.split(","):
        for root in (mount / controllers, mount / _V1_CONTROLLER):
            for folder in _folders_up(root, path):
                yield from _read_v1_quota(folder)


def _folders_up(root: Path, path: str) -> Iterator[Path]:
    """Yields the folder of a group and those above it, up to the root.

    Inside a container the path may be that of the host, which does not exist here: then the root is the container's.
    """
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])


def _read_v2_quota(folder: Path) -> Iterator[float]:
    words = _read_words(folder / "cpu.max")
    if len(words) == 2 and words[0] != "max":
        yield int(words[0]) / int(words[1])


def _read_v1_quota(folder: Path) -> Iterator[float]:
    quota = _read_words(folder / "cpu.cfs_quota_us")
    period = _read_words(folder / "cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:  # -1: no quota
        yield int(quota[0]) / int(period[0])


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
