"""Runs our program and a peer's in turn, A B A B …, and states the ratio of what they reached."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnnlib.errors import CnnlibError
from cnnlib.log import log_event

_TIMEOUT_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A program to compare with: a module and its arguments."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row of a stage: our program against a peer; the target is a median ratio."""

    stage: str
    case: str
    ours: tuple[str, ...]
    peer: Peer
    target: float


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """What a comparison came to; a ratio above 1 means that ours was faster, pair by pair."""

    stage: str
    case: str
    peer: str
    ratio_median: float
    ratio_min: float
    ratio_max: float
    ours_median: float
    peer_median: float
    n: int
    target: float
    met: bool

    def to_row(self) -> dict[str, Any]:
        """The ratio as JSON values."""
        return asdict(self)


def compare(comparison: Comparison, pairs: int) -> Ratio:
    """Runs the pairs, each program in a fresh process on this process's cores.

    Raises:
        CnnlibError: a program failed.
    """
    ours, theirs = [], []
    for pair in range(pairs):
        ours.append(run_program(comparison.ours))
        theirs.append(run_program(comparison.peer.command))
        log_event("pair", number=pair + 1, ours=ours[-1], peer=theirs[-1], name=comparison.peer.name)
    return summarize(comparison, ours, theirs)


def summarize(comparison: Comparison, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The ratio pair by pair: both of a pair ran within the same minutes, so a drifting machine cancels out."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    median = statistics.median(ratios)
    return Ratio(
        stage=comparison.stage,
        case=comparison.case,
        peer=comparison.peer.name,
        ratio_median=median,
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        ours_median=statistics.median(ours),
        peer_median=statistics.median(theirs),
        n=len(ratios),
        target=comparison.target,
        met=median >= comparison.target,
    )


def run_program(command: Sequence[str]) -> float:
    """Runs `python -m COMMAND` and returns the images_per_s of its last line.

    Raises:
        CnnlibError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        },
    )
    if done.returncode:
        raise CnnlibError(
            f"{' '.join(command)} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        )
    return float(json.loads(done.stdout.strip().splitlines()[-1])["images_per_s"])
