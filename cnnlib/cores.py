"""Counts the CPU cores that this process may use: those of its affinity, at most the quota of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from cnnlib.cgroups import MOUNT, OWN_GROUPS, GroupFolder, iter_group_folders, read_words


def num_cores() -> int:
    """Returns the number of cores that this process may use, at least 1. A quota of 1.5 cores counts as 2."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = find_cpu_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def find_cpu_quota(own_groups: Path = OWN_GROUPS, mount: Path = MOUNT) -> float | None:
    """Returns the CPU quota of this process's container in cores; None: there is none.

    The quota of every group above the process's own counts too, so the smallest one is returned.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max), and for version 1
    https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us, cpu.cfs_period_us).

    Args:
        own_groups, mount: see `iter_group_folders`.
    """
    folders = iter_group_folders("cpu", own_groups, mount)
    return min((quota for folder in folders for quota in _read_quota(folder)), default=None)


def _read_quota(folder: GroupFolder) -> Iterator[float]:
    if folder.version == 2:
        words = read_words(folder.path / "cpu.max")
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])
        return
    quota, period = (read_words(folder.path / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota and period and int(quota[0]) > 0:  # -1: no quota
        yield int(quota[0]) / int(period[0])
