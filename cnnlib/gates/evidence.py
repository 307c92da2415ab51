"""Reports and the checks asked of one of them in, the counts and flips that answer each check out as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnlib.errors import nearest
from cnnlib.gates.checks import (
    Check,
    Evidence,
    accuracy_evidence,
    paired_drop_evidence,
    unpaired_drop_evidence,
)
from cnnlib.reports.pairing import PairedRows, Unpaired, pair_rows
from cnnlib.reports.read import Report

Counts = tuple[int, int]
"""Right rows, and all rows."""


def weigh(
    reports_uri: str, report: Report, baseline: Report | None, checks: Sequence[Check]
) -> list[Evidence]:
    """What a report, and the one that it is measured against, say to each check.

    Args:
        reports_uri: the folder of all reports.
        baseline: None where there is none yet.
    """
    own = _Counts.of(report)
    accuracies = {check: _weigh_accuracy(check, own) for check in checks if check.check == "min_accuracy"}
    drops = [check for check in checks if check.check == "max_drop"]
    if not drops or baseline is None:
        none_yet = Evidence(
            note="no earlier report of the same data, split and settings", passes_without=True
        )
        found = {**accuracies, **dict.fromkeys(drops, none_yet)}
    else:
        found = {**accuracies, **_weigh_drops(reports_uri, report, baseline, own, drops)}
    return [found[check] for check in checks]


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Right rows and all rows of everything in a report that a check may ask of."""

    overall: Counts
    classes: Mapping[str, Counts]
    slices: Mapping[str, Counts]

    @classmethod
    def of(cls, report: Report) -> _Counts:
        return cls(
            overall=(report.record.correct, report.record.rows),
            classes={row["class_name"]: (row["correct"], row["support"]) for row in report.classes},
            slices={row["slice"]: (row["correct"], row["rows"]) for row in report.slices},
        )

    def find(self, check: Check) -> Counts | None:
        """The counts that a check asks of; None where the report has no such class or slice."""
        if check.class_name is not None:
            return self.classes.get(check.class_name)
        return self.overall if check.slice is None else self.slices.get(check.slice)


def _weigh_accuracy(check: Check, own: _Counts) -> Evidence:
    counts = own.find(check)
    return _missing(check, own, "the report") if counts is None else accuracy_evidence(*counts, check.limit)


def _weigh_drops(
    reports_uri: str, report: Report, baseline: Report, own: _Counts, checks: Sequence[Check]
) -> dict[Check, Evidence]:
    before = _Counts.of(baseline)
    paired = pair_rows(reports_uri, (baseline.record, report.record))
    class_names = list(own.classes)
    return {check: _weigh_drop(check, before, own, paired, class_names) for check in checks}


def _weigh_drop(
    check: Check,
    before: _Counts,
    own: _Counts,
    paired: PairedRows | Unpaired,
    class_names: Sequence[str],
) -> Evidence:
    counts_before, counts = before.find(check), own.find(check)
    if counts is None:
        return _missing(check, own, "the report")
    if counts_before is None:
        return _missing(check, before, "the baseline")
    if isinstance(paired, Unpaired) or check.slice is not None:
        why = paired.reason if isinstance(paired, Unpaired) else "predictions do not tell their slice"
        return unpaired_drop_evidence(counts_before, counts, check.limit, f"not paired row by row: {why}")
    right_before, right_now = paired.right
    of_check = np.ones(len(paired.ids), np.bool_)
    if check.class_name is not None:
        of_check = paired.labels == class_names.index(check.class_name)
    only_before, only_now = right_before & ~right_now & of_check, right_now & ~right_before & of_check
    return paired_drop_evidence(int(only_before.sum()), int(only_now.sum()), int(of_check.sum()), check.limit)


def _missing(check: Check, counts: _Counts, where: str) -> Evidence:
    name, known = (check.class_name, counts.classes) if check.slice is None else (check.slice, counts.slices)
    hint = nearest(str(name), known).rstrip(".") if known else "it has none"
    return Evidence(note=f"{where} has no {check.scope} {name!r}. {hint}")
