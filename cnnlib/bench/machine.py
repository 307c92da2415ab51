"""Describes the machine and the versions of a measurement, without the name of the host."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

from cnnlib.bench.programs import REPOSITORY
from cnnlib.models.runtime import cpu_flags, cpu_name

PEERS_PYTHON = REPOSITORY / ".venv-peers" / "bin" / "python"
_PACKAGES = ("tensorflow", "keras", "tf_keras", "ray", "numpy", "pyarrow")
_VECTORS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd")  # widest first
_NO_NAME = re.compile(r"\((r|tm)\)|@.*|\b(amd|intel|cpu|processor|\d+-core)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Describes where a measurement was taken.

    Attributes:
        cpu: the model of the CPU and its widest vector instructions.
        cores: number of cores that every program was pinned to.
        versions: `package version` of Python, then of the packages.
    """

    cpu: str
    cores: int
    memory_gib: int
    versions: tuple[str, ...]

    @property
    def slug(self) -> str:
        """The machine as part of a file name, such as `epyc-2core`."""
        words = re.findall(r"[a-z0-9]+", _NO_NAME.sub(" ", self.cpu.partition(",")[0]).lower())
        return "-".join([*words, f"{self.cores}core"])


def describe_machine(cores: int) -> Machine:
    """Describes the machine of this process.

    Args:
        cores: number of cores that the benchmark uses.
    """
    return Machine(cpu=_cpu(), cores=cores, memory_gib=_memory_gib(), versions=_versions())


def pin(cores: int | None) -> int:
    """Pins this process, and so every program it starts, to its first cores, and returns their number.

    Args:
        cores: the number of cores; None for all that this process may use, which is also the most.
    """
    if not hasattr(os, "sched_setaffinity"):
        return cores or os.cpu_count() or 1  # macOS cannot pin
    usable = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, usable)
    return len(usable)


def why_no_torch() -> str | None:
    """Returns the reason why the PyTorch peer cannot run here; None if it can."""
    if PEERS_PYTHON.exists():
        return None
    return "PyTorch is not installed; see make bench-peers"


def utc_now() -> datetime:
    """Returns the current time, without fractions of a second."""
    return datetime.now(UTC).replace(microsecond=0)


def _cpu() -> str:
    name = cpu_name()
    vectors = next((each for each in _VECTORS if each in cpu_flags()), None)
    return f"{name}, {vectors}" if vectors else name


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _versions() -> tuple[str, ...]:
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    if PEERS_PYTHON.exists():
        code = "from importlib.metadata import version; print('torch', version('torch'))"
        done = subprocess.run([PEERS_PYTHON, "-c", code], capture_output=True, text=True, check=False)
        found += [done.stdout.strip()] if done.returncode == 0 else []
    return tuple(found)
