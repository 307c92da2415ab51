"""Reports of runs that differ in their seed alone in, their median and their spread out.

The spread between seeds says how much luck a training has; the interval of a report says how much luck there is in the
rows of the split. Neither holds the other, so both are shown.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import list_reports
from cnnlib.storage import layout


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """The runs of `jobs.train --seeds` of one name, each by the report of its last epoch that has one.

    Of two runs of one name and seed, the one that was started last counts.

    Attributes:
        name: what the runs are called before their seed.
        records: of one run each, by seed.
        seeds: of the runs.
    """

    name: str
    records: tuple[ReportRecord, ...]
    seeds: tuple[int, ...]

    @property
    def accuracies(self) -> list[float]:
        """The accuracy of each run, 0..1."""
        return [record.accuracy.fraction or 0.0 for record in self.records]

    @property
    def median(self) -> float:
        """The median accuracy, 0..1; of an even number of runs, the mean of the two in the middle."""
        return statistics.median(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the accuracy between seeds (n - 1 degrees of freedom); None of one seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def middle(self) -> ReportRecord:
        """The report of the run in the middle, of an even number the worse of the two: its interval is shown."""
        ordered = sorted(self.records, key=lambda record: record.accuracy.fraction or 0.0)
        return ordered[(len(ordered) - 1) // 2]

    def to_row(self) -> dict[str, Any]:
        """Returns the group as JSON values."""
        middle = self.middle
        return {
            "name": self.name,
            "model": middle.subject.model,
            "data": middle.subject.data_label,
            "seeds": list(self.seeds),
            "epochs": [record.subject.checkpoint_epoch for record in self.records],
            "report_ids": [record.report_id for record in self.records],
            "accuracies": self.accuracies,
            "median_accuracy": self.median,
            "lowest_accuracy": min(self.accuracies),
            "highest_accuracy": max(self.accuracies),
            "standard_deviation": self.deviation,
            "accuracy_low": middle.accuracy.low,
            "accuracy_high": middle.accuracy.high,
        }


def list_seed_groups(reports_uri: str, fewest: int = 2) -> list[SeedGroup]:
    """Reads the reports of runs with several seeds, the best median first.

    Args:
        fewest: seeds of a group that is listed.

    Raises:
        ReportError: there are no reports, or one is damaged.
    """
    groups: dict[tuple[str, ...], dict[int, ReportRecord]] = defaultdict(dict)
    for record in list_reports(reports_uri):
        found = layout.find_seed(record.subject.run or "")
        if found is None or record.accuracy.fraction is None:
            continue
        name, seed = found
        settings = str(sorted(record.subject.evaluation.items()))
        group = groups[name, record.subject.model or "", *record.scored_rows, settings]
        if seed not in group or _age(record) > _age(group[seed]):
            group[seed] = record
    found_groups = [_build(key[0], group) for key, group in groups.items() if len(group) >= fewest]
    return sorted(found_groups, key=lambda each: (-each.median, each.name))


def _build(name: str, group: dict[int, ReportRecord]) -> SeedGroup:
    seeds: Sequence[int] = sorted(group)
    return SeedGroup(name=name, records=tuple(group[seed] for seed in seeds), seeds=tuple(seeds))


def _age(record: ReportRecord) -> tuple[str, int]:
    """Orders the reports of a name: a run that was started anew replaces the one before, however long that was."""
    return record.subject.run_started_at or "", record.subject.checkpoint_epoch or 0
