"""Runs our program and a peer's in turn, A B A B …, and states the ratio of what they reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from cnnlib.bench.inputs import Inputs
from cnnlib.bench.machine import utc_now
from cnnlib.bench.programs import Figure, Finished, Program, run_program, take_figure
from cnnlib.errors import CnnlibError
from cnnlib.log import log_event

Unit = Literal["images/s", "GFLOP/s", "s", "share"]
Goal = Literal["at least", "at most"]


@dataclass(frozen=True, kw_only=True)
class Share:
    """A second row out of the same runs: a share, 0..1, that our program reports; it is to be at most `target`."""

    case: str
    of: str
    figure: Figure
    target: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row of a stage: our program against a peer.

    Attributes:
        unit: of both figures. Seconds are better when there are fewer, everything else when there is more.
        target: what the median ratio is to reach; None: it is only stated.
        goal: `at least`: a ratio above 1 means that ours is better. `at most`: the ratio is ours over the peer's,
            of seconds, and better when it is lower.
        not_run: why the row cannot be measured here; None if it can.
        share: see `Share`.
    """

    stage: str
    case: str
    ours: Program
    peer: Program
    unit: Unit
    target: float | None
    goal: Goal = "at least"
    not_run: str | None = None
    share: Share | None = None


class Pair(NamedTuple):
    """One turn: what ours and the peer's reached, their ratio, and when ours began (UTC)."""

    ours: float
    theirs: float
    ratio: float
    time: datetime


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a comparison came to.

    Attributes:
        not_run: why it was not measured, or failed; None if it was.
    """

    stage: str
    case: str
    peer: str
    unit: str
    goal: str
    target: float | None
    pairs: tuple[Pair, ...]
    not_run: str | None = None

    @property
    def ratio(self) -> float | None:
        """The median ratio; None if it was not run."""
        return statistics.median(pair.ratio for pair in self.pairs) if self.pairs else None

    @property
    def met(self) -> bool | None:
        """Whether the median ratio reached the target; None without one, or if it was not run."""
        if self.ratio is None or self.target is None:
            return None
        return self.ratio <= self.target if self.goal == "at most" else self.ratio >= self.target

    @property
    def failed(self) -> bool:
        """True if a program of it broke."""
        return self.not_run is not None and self.not_run.startswith("failed")

    def to_json(self) -> dict[str, Any]:
        """The row as JSON values; figures are null where it was not run."""
        ratios = [pair.ratio for pair in self.pairs]
        return {
            "stage": self.stage,
            "case": self.case,
            "peer": self.peer,
            "ratio_median": self.ratio,
            "ratio_min": min(ratios, default=None),
            "ratio_max": max(ratios, default=None),
            "ours_median": statistics.median(p.ours for p in self.pairs) if self.pairs else None,
            "peer_median": statistics.median(p.theirs for p in self.pairs) if self.pairs else None,
            "unit": self.unit,
            "n": len(self.pairs),
            "target": self.target,
            "goal": self.goal,
            "met": self.met,
            "not_run": self.not_run,
        }


def compare(comparison: Comparison, pairs: int, inputs: Inputs) -> list[Row]:
    """Runs the pairs, each program in a fresh process on this process's cores.

    Returns:
        The comparison's row, then its share's. A program that fails makes a row that says so: hours of other rows
        must not be lost to it.
    """
    if comparison.not_run is not None:
        return [_row(comparison, (), comparison.not_run)]
    measured: list[Pair] = []
    shares: list[Pair] = []
    try:
        for number in range(1, pairs + 1):
            time = utc_now()
            (ours, done), (theirs, _) = _measure(comparison.ours, inputs), _measure(comparison.peer, inputs)
            measured.append(Pair(ours, theirs, pair_ratio(comparison, ours, theirs), time))
            if comparison.share is not None:
                share = take_figure(comparison.share.figure, done, comparison.ours.name)
                shares.append(Pair(share, 1.0, share, time))
            log_event(
                "pair",
                stage=comparison.stage,
                number=f"{number}/{pairs}",
                ours=ours,
                peer=theirs,
                ratio=measured[-1].ratio,
                name=comparison.peer.name,
            )
    except CnnlibError as err:
        log_event("row", failed=str(err))
        return [_row(comparison, (), f"failed: {err}")]
    rows = [_row(comparison, measured)]
    if comparison.share is not None:
        rows.append(
            replace(
                rows[0],
                case=comparison.share.case,
                peer=comparison.share.of,
                unit="share",
                goal="at most",
                target=comparison.share.target,
                pairs=tuple(shares),
            )
        )
    return rows


def pair_ratio(comparison: Comparison, ours: float, theirs: float) -> float:
    """The ratio of one pair: both ran within the same minutes, so a drifting machine cancels out."""
    more_is_better = comparison.unit != "s"
    return ours / theirs if more_is_better or comparison.goal == "at most" else theirs / ours


def _measure(program: Program, inputs: Inputs) -> tuple[float, Finished]:
    with inputs.fill(program) as filled:
        done = run_program(filled)
    return take_figure(program.figure, done, program.name), done


def _row(comparison: Comparison, pairs: Sequence[Pair], not_run: str | None = None) -> Row:
    return Row(
        stage=comparison.stage,
        case=comparison.case,
        peer=comparison.peer.name,
        unit=comparison.unit,
        goal=comparison.goal,
        target=comparison.target,
        pairs=tuple(pairs),
        not_run=not_run,
    )
