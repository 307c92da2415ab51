"""Tests that the CPU quota of a container limits the cores that are counted, in both versions of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnlib import cores
from cnnlib.cluster import connect


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/pod/main\n", {"pod/main/cpu.max": "max 100000", "pod/cpu.max": "200000 100000"}, 2.0),
        ("0::/pod/main\n", {"pod/main/cpu.max": "50000 100000", "pod/cpu.max": "200000 100000"}, 0.5),
        # A container that sees the path of its host, but not the folders of it.
        ("0::/../../kubepods/pod1\n", {"cpu.max": "300000 100000"}, 3.0),
        (
            "4:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        (
            "4:cpuacct,cpu:/docker/abc\n",
            {"cpu/docker/abc/cpu.cfs_quota_us": "100000", "cpu/docker/abc/cpu.cfs_period_us": "100000"},
            1.0,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {}, None),
        (None, {"cpu.max": "100000 100000"}, None),
    ],
)
def test_quota_is_the_smallest_of_a_group_and_those_above_it(
    tmp_path: Path, own: str | None, files: dict[str, str], expected: float | None
) -> None:
    if own is not None:
        (tmp_path / "self").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cores.find_cpu_quota(tmp_path / "self", tmp_path / "cgroup") == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 4), (0.1, 1), (1.0, 1), (1.5, 2), (4.0, 4), (64.0, 4)], ids=str
)
def test_cores_are_those_of_the_affinity_up_to_the_quota_rounded_up(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(cores, "find_cpu_quota", lambda: quota)
    assert cores.num_cores() == expected


def test_threads_and_a_ray_of_our_own_count_the_same_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "find_cpu_quota", lambda: 2.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert connect.divide_cores(1, None) == 2
