"""Tests that the limit of a container counts besides the memory of the machine, in both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlib.memory import find_free_memory

KIB = 1024


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (None, {}, 4000 * KIB),
        ("0::/\n", {"memory.max": "max", "memory.current": "5"}, 4000 * KIB),
        ("0::/\n", {"memory.max": "3000", "memory.current": "1000"}, 2000),
        (
            "0::/pod\n",
            {
                "pod/memory.max": "3000",
                "pod/memory.current": "1000",
                "pod/memory.stat": "anon 500\ninactive_file 400\n",
                "memory.max": "9000",
                "memory.current": "1000",
            },
            2400,
        ),
        ("0::/\n", {"memory.max": "1000", "memory.current": "1200"}, 0),
        (
            "4:memory:/docker/abc\n2:cpu:/docker/abc\n",
            {
                "memory/memory.limit_in_bytes": "5000",
                "memory/memory.usage_in_bytes": "2000",
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 100\n",
            },
            3100,
        ),
        (
            "4:memory:/\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",  # no limit, in version 1
                "memory/memory.usage_in_bytes": "2000",
            },
            4000 * KIB,
        ),
    ],
)
def test_free_memory_is_what_the_machine_and_each_group_have_left(
    tmp_path: Path, own: str | None, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  8000 kB\nMemFree:  100 kB\nMemAvailable:  4000 kB\n")
    if own is not None:
        (tmp_path / "self").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert find_free_memory(tmp_path / "meminfo", tmp_path / "self", tmp_path / "cgroup") == expected


def test_a_system_that_does_not_tell_has_no_answer(tmp_path: Path) -> None:
    assert find_free_memory(tmp_path / "absent", tmp_path / "self", tmp_path) is None


def test_this_machine_has_some_free_memory() -> None:
    free = find_free_memory()
    assert free is None or 2**20 < free < 2**50
