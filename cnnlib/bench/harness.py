"""Runs our program and a peer in turn, A B A B …, and computes the ratio of their measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

from cnnlib.bench.inputs import Inputs
from cnnlib.bench.machine import utc_now
from cnnlib.bench.programs import Finished, Measurement, Program, run_program, take_measurement
from cnnlib.errors import CnnlibError
from cnnlib.log import log_event

# "share" is the unit of a `Fraction`: the recorded benchmarks store this word.
Unit = Literal["images/s", "GFLOP/s", "s", "share"]
Goal = Literal["at least", "at most"]


@dataclass(frozen=True, kw_only=True)
class Fraction:
    """Describes a second row from the same runs: a fraction, 0..1, that our program reports.

    Attributes:
        of: the whole that it is a fraction of, such as the time of the epoch.
        target: the greatest value that meets the target.
    """

    case: str
    of: str
    measurement: Measurement
    target: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Describes one row of a stage: our program against a peer.

    Attributes:
        unit: unit of both measurements. Fewer seconds are better; more of any other unit is better.
        target: the median ratio to reach; None if the ratio is only stated.
        goal: `at least`: a ratio above 1 means that ours is better. `at most`: the ratio is our seconds over the
            peer's, and a lower ratio is better.
        not_run: the reason why the row cannot be measured here; None if it can.
        fraction: a second row from the same runs, if any.
    """

    stage: str
    case: str
    ours: Program
    peer: Program
    unit: Unit
    target: float | None
    goal: Goal = "at least"
    not_run: str | None = None
    fraction: Fraction | None = None


class Pair(NamedTuple):
    """Holds one measurement of ours and one of the peer, their ratio, and the time when ours began (UTC)."""

    ours: float
    theirs: float
    ratio: float
    time: datetime


@dataclass(frozen=True, kw_only=True)
class Row:
    """Holds the result of a comparison.

    Attributes:
        not_run: the reason why it was not measured, or how it failed; None if it was measured.
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
        """The median ratio; None if the row was not measured."""
        return statistics.median(pair.ratio for pair in self.pairs) if self.pairs else None

    @property
    def met(self) -> bool | None:
        """True if the median ratio meets the target; None without a target, or if the row was not measured."""
        if self.ratio is None or self.target is None:
            return None
        return self.ratio <= self.target if self.goal == "at most" else self.ratio >= self.target

    @property
    def failed(self) -> bool:
        """True if one of its programs failed."""
        return self.not_run is not None and self.not_run.startswith("failed")

    @property
    def medians(self) -> tuple[float, float] | None:
        """The median measurements of ours and of the peer; None if the row was not measured."""
        if not self.pairs:
            return None
        return (
            statistics.median(pair.ours for pair in self.pairs),
            statistics.median(pair.theirs for pair in self.pairs),
        )

    def to_json(self) -> dict[str, str | float | None]:
        """Returns the row as JSON values; the measurements are None if the row was not measured."""
        ours_median, peer_median = self.medians or (None, None)
        ratios = [pair.ratio for pair in self.pairs]
        return {
            "stage": self.stage,
            "case": self.case,
            "peer": self.peer,
            "ratio_median": self.ratio,
            "ratio_min": min(ratios, default=None),
            "ratio_max": max(ratios, default=None),
            "ours_median": ours_median,
            "peer_median": peer_median,
            "unit": self.unit,
            "n": len(self.pairs),
            "target": self.target,
            "goal": self.goal,
            "met": self.met,
            "not_run": self.not_run,
        }


def compare(comparison: Comparison, pairs: int, inputs: Inputs) -> list[Row]:
    """Runs a number of pairs, each program in a fresh process on the cores of this process.

    Returns:
        The row of the comparison, then the row of its fraction, if any. A program that fails makes a row with the
        reason: an exception here would lose the rows of hours.
    """
    if comparison.not_run is not None:
        return [_row(comparison, (), comparison.not_run)]
    measured: list[Pair] = []
    fractions: list[Pair] = []
    try:
        for number in range(1, pairs + 1):
            time = utc_now()
            (ours, done), (theirs, _) = _measure(comparison.ours, inputs), _measure(comparison.peer, inputs)
            measured.append(Pair(ours, theirs, pair_ratio(comparison, ours, theirs), time))
            if comparison.fraction is not None:
                value = take_measurement(comparison.fraction.measurement, done, comparison.ours.name)
                fractions.append(Pair(value, 1.0, value, time))
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
    if comparison.fraction is not None:
        rows.append(
            replace(
                rows[0],
                case=comparison.fraction.case,
                peer=comparison.fraction.of,
                unit="share",
                goal="at most",
                target=comparison.fraction.target,
                pairs=tuple(fractions),
            )
        )
    return rows


def pair_ratio(comparison: Comparison, ours: float, theirs: float) -> float:
    """Returns the ratio of one pair. Both programs ran within minutes, so changes of the machine cancel out."""
    more_is_better = comparison.unit != "s"
    return ours / theirs if more_is_better or comparison.goal == "at most" else theirs / ours


def _measure(program: Program, inputs: Inputs) -> tuple[float, Finished]:
    with inputs.fill(program) as filled:
        done = run_program(filled)
    return take_measurement(program.measurement, done, program.name), done


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
