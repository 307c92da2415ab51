"""A ladder and a folder of reports in, a row per rung out: accuracy over the seeds, cost, and whether its rule is kept.

The runs are found by the names of their reports, and their time by the history beside their checkpoints.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.config import EarlyStoppingConfig
from cnnlib.errors import ConfigError, InputError
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.percent import format_percent
from cnnlib.reports.read import read_overall
from cnnlib.runs.early_stopping import is_stopped
from cnnlib.runs.history import EpochRecord
from cnnlib.runs.mending import find_history
from cnnlib.runs.record import RunRecord, find_run_record
from cnnlib.storage import layout
from cnnlib.views.experiments.seeds import SeedGroup, list_seed_groups
from cnnlib.views.ladder.definition import Ladder, Rung


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a rung reached and cost.

    Attributes:
        group: the reports of its runs, by seed.
        parameters, flops_per_image: of the model; None where the report does not know them.
        epochs: that each run trained.
        unfinished: why a report may not be about the end of its run, in words; None if all are.
        minutes: median over the runs of the time of all their epochs; None where the history is gone or incomplete.
        images_per_s: median over the runs of the median training speed of an epoch; None likewise.
    """

    group: SeedGroup
    parameters: int | None
    flops_per_image: int | None
    epochs: int
    unfinished: str | None
    minutes: float | None
    images_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is left of the run of a report.

    Attributes:
        epochs: up to the checkpoint of the report.
        record: None if it is gone.
        history: of these epochs; shorter if it is gone.
    """

    uri: str
    epochs: int
    record: RunRecord | None
    history: tuple[EpochRecord, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A rung and what was measured of it; `measured` is None where no run has a report.

    Attributes:
        verdict: whether the rule is kept and the target is reached, in words.
        reached: the same as a fact; None without runs, or without a target.
    """

    rung: Rung
    measured: Measured | None
    verdict: str
    reached: bool | None

    def to_row(self) -> dict[str, Any]:
        """Returns the row as JSON values."""
        row: dict[str, Any] = {"rung": self.rung.name, "recipe": self.rung.recipe, "rule": self.rung.rule}
        row |= {"target": self.rung.target, "expected": self.rung.expected}
        row |= {"verdict": self.verdict, "reached": self.reached}
        if self.measured is not None:
            measured = self.measured
            row |= measured.group.to_row() | {
                "parameters": measured.parameters,
                "flops_per_image": measured.flops_per_image,
                "epochs": measured.epochs,
                "minutes": measured.minutes,
                "images_per_s": measured.images_per_s,
            }
        return row


def list_rows(reports_uri: str, ladder: Ladder) -> list[Row]:
    """Reads the reports and runs of all rungs.

    Raises:
        ConfigError: the runs of a rung have reports about several datasets, models or settings.
        ReportError: there are no reports, or one is damaged.
    """
    groups = list_seed_groups(reports_uri, fewest=1)
    measured = {
        rung.name: _measure(
            reports_uri,
            rung,
            [each for each in groups if each.name == rung.name and each.middle.subject.split == ladder.split],
        )
        for rung in ladder.rungs
    }
    return [_judge(rung, measured) for rung in ladder.rungs]


def _measure(reports_uri: str, rung: Rung, groups: Sequence[SeedGroup]) -> Measured | None:
    if not groups:
        return None
    if len(groups) > 1:
        raise ConfigError(
            f"The runs of rung {rung.name} have reports about {len(groups)} different datasets, models or settings in "
            f"{reports_uri}. Expected one: give each ladder a folder of reports of its own."
        )
    (group,) = groups
    costs = next(row for row in read_overall(reports_uri, group.middle) if row["slice"] is None)
    runs = [_find_run(record) for record in group.records]
    times = [_time(run) for run in runs]
    return Measured(
        group=group,
        parameters=costs["parameters"],
        flops_per_image=costs["flops_per_image"],
        epochs=min(run.epochs for run in runs),
        unfinished=next(filter(None, map(_unfinished, runs)), None),
        minutes=_median([seconds / 60 for seconds, _ in times]),
        images_per_s=_median([speed for _, speed in times]),
    )


def _find_run(record: ReportRecord) -> _Run:
    """Reads what is left of the run of a report: a report may outlive it, or have readers who may not read runs."""
    uri = layout.run_of_checkpoint(record.subject.checkpoint_uri)
    try:
        stored = find_run_record(uri)
    except InputError:
        stored = None
    epochs = record.subject.checkpoint_epoch or 0
    history = tuple(each for each in find_history(uri) if each.epoch <= epochs)
    return _Run(uri=uri, epochs=epochs, record=stored, history=history)


def _time(run: _Run) -> tuple[float, float]:
    """Returns the seconds of all epochs up to the checkpoint, and the median images/s; NaN for what is not known."""
    if not run.history or len(run.history) < run.epochs:
        return math.nan, math.nan
    speeds = [each.images_per_s for each in run.history if not math.isnan(each.images_per_s)]
    return sum(each.seconds for each in run.history), statistics.median(speeds) if speeds else math.nan


def _unfinished(run: _Run) -> str | None:
    """Returns why the report of a run may not be that of its end; None if it is."""
    if run.record is None:
        return f"the planned epochs are unknown: {layout.run_record(run.uri)} cannot be read"
    config = run.record["config"]
    planned = int(config["epochs"])
    early_stopping = EarlyStoppingConfig(
        **config.get("early_stopping", {})
    )  # the first runs have no such entry
    if run.epochs >= planned or is_stopped(run.history, early_stopping):
        return None
    return f"only {run.epochs} of {planned} epochs have a report"


def _median(values: Sequence[float]) -> float | None:
    median = statistics.median(values)
    return None if any(map(math.isnan, values)) else median


def _judge(rung: Rung, all_measured: Mapping[str, Measured | None]) -> Row:
    measured = all_measured[rung.name]
    if measured is None:
        return Row(rung=rung, measured=None, verdict=f"not run{_note(rung)}", reached=None)
    problems = list(_broken_rules(rung, measured, all_measured))
    reached = None
    if rung.target is not None:
        missing = rung.target - measured.group.median
        reached = missing <= 0
        if not reached:
            problems.append(f"{format_percent(missing, 2, unit=' points')} below")
    if rung.expected is not None:
        low, high = measured.group.middle.accuracy.low, measured.group.middle.accuracy.high
        reached = low is not None and high is not None and low <= rung.expected <= high
        if not reached:
            problems.append(f"{format_percent(rung.expected, 2)} is not in the range")
    verdict = "; ".join(problems) or ("-" if reached is None else "reached")
    return Row(
        rung=rung, measured=measured, verdict=verdict, reached=None if reached is None else not problems
    )


def _broken_rules(rung: Rung, measured: Measured, all_measured: Mapping[str, Measured | None]) -> list[str]:
    problems = []
    if measured.unfinished is not None:
        problems.append(measured.unfinished)
    mflop = None if measured.flops_per_image is None else measured.flops_per_image / 1e6
    problems += _limit(measured.parameters, rung.max_parameters, "parameters")
    problems += _limit(mflop, rung.max_mflop, "MFLOP")
    if rung.max_minutes_of is not None:
        other = all_measured[rung.max_minutes_of]
        limit = None if other is None else other.minutes
        if limit is None or measured.minutes is None:
            problems.append(f"the minutes of {rung.name} or {rung.max_minutes_of} are unknown")
        else:
            problems += _limit(measured.minutes, limit, f"minutes, of {rung.max_minutes_of}", digits=1)
    return problems


def _limit(value: float | None, limit: float | None, unit: str, digits: int | None = None) -> list[str]:
    """Returns what is wrong with a cost under a limit, if anything is; an unknown cost keeps no limit."""
    if limit is None or (value is not None and value <= limit):
        return []
    shown = f"{limit:,}" if digits is None else f"{limit:,.{digits}f}"
    return [f"more than {shown} {unit}" if value is not None else f"{unit} unknown: the limit is {shown}"]


def _note(rung: Rung) -> str:
    return f": {rung.note}" if rung.note else ""
