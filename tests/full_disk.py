"""Disks that take no more: one without room for large files, a folder that refuses, and a small file system."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NOBODY = 65534


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Lets every write of this process beyond so many bytes of a file fail, in any container and for any user.

    The system answers EFBIG where a full disk answers ENOSPC; like that, it comes after a part of the bytes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A new folder that every user can reach; pytest's own folders only its user can."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="read-only-") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Lets everything below a folder refuse to be written. Root is another user meanwhile: no mode refuses root."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if path.is_dir()}
    for path in modes:
        path.chmod(0o555)
    if is_root := os.geteuid() == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


class SmallDisk:
    """A file system of its own, in memory, that processes started here see, and no others."""

    def __init__(self, folder: Path, holder: subprocess.Popen[str], enter: Sequence[str]) -> None:
        self.folder = folder
        self._holder = holder
        self._enter = ["nsenter", f"--target={holder.pid}", "--mount", *enter]

    def run(self, *command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command that sees the disk."""
        words = [*self._enter, f"--wd={os.getcwd()}", "--", *map(str, command)]
        return subprocess.run(words, capture_output=True, text=True, timeout=300, **options)

    def remount(self, *options: str) -> None:
        """Changes the disk: `size=4m`, `ro`, `rw`."""
        done = self.run("mount", "-o", ",".join(["remount", *options]), self.folder)
        assert done.returncode == 0, done.stderr

    def used_kib(self) -> int:
        """Returns how much of the disk is used."""
        return int(self.run("df", "-k", "--output=used", self.folder).stdout.split()[1])

    def list_files(self) -> dict[str, bytes]:
        """Returns all files, hidden ones too, with their digests."""
        done = self.run("find", self.folder, "-type", "f", "-exec", "sha256sum", "{}", "+")
        lines = [line.split("  ", 1) for line in done.stdout.splitlines()]
        return {name.removeprefix(f"{self.folder}/"): digest.encode() for digest, name in lines}


@contextmanager
def run_small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """Mounts a disk of a size, such as `300k`, on a folder; skips the test where no user of a container may."""
    if not all(map(shutil.which, ("unshare", "nsenter"))):
        pytest.skip("there is no unshare or nsenter, of util-linux, here")
    as_root: list[str] = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = f'mount -t tmpfs -o size={size} none "$0" && echo mounted && exec cat'
    holder = subprocess.Popen(
        ["unshare", "--mount", *as_root, "sh", "-c", mount, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline().strip() != "mounted":
            _, why = holder.communicate()
            pytest.skip(f"this container may not mount a file system: {why.strip()}")
        yield SmallDisk(folder, holder, ["--user", "--preserve-credentials"] if as_root else [])
    finally:
        holder.stdin.close()
        holder.wait()
