"""Finds and signals processes below one that a test started; others on the machine are left alone."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of this moment.

    Attributes:
        command: its arguments, or the title that it gave itself.
        threads, files: how many threads and open files it has.
        rss_mib: its memory.
    """

    pid: int
    command: str
    threads: int
    files: int
    rss_mib: float


def descendants(pid: int) -> list[Process]:
    """Returns the processes below a process, at any depth, that live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                # The name in brackets may hold spaces.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            process = describe(child)
            if process is not None:
                found.append(process)
    return found


def describe(pid: int) -> Process | None:
    """Describes a process; None if it has ended."""
    folder = Path("/proc", str(pid))
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
        )
        files = len(os.listdir(folder / "fd"))
        return Process(
            pid=pid,
            command=command,
            threads=int(status["Threads"]),
            files=files,
            rss_mib=int(status.get("VmRSS", "0 kB").split()[0]) / 1024,
        )
    except (OSError, KeyError, ValueError):
        return None


def send(pid: int, number: signal.Signals) -> bool:
    """Sends a signal; returns False if there is no such process any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
