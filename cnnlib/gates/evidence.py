"""The evidence for checks: a report, its baseline and the checks in; estimates, intervals and p-values out.

An accuracy is tested against its minimum with the exact binomial test. A drop is tested with McNemar's exact test or,
for a limit above 0, with an exact test of the paired score statistic; where rows cannot be paired, with Fisher's exact
test or the score test of Farrington and Manning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from cnnlib.errors import nearest
from cnnlib.gate_config import find_baseline_run
from cnnlib.gates.checks import Check, Evidence
from cnnlib.metrics import significance
from cnnlib.metrics.intervals import paired_interval, proportion, unpaired_interval
from cnnlib.reports.pairing import PairedRows, Unpaired, pair_rows
from cnnlib.reports.predictions import rows_in_slice
from cnnlib.reports.read import Report

_QUANTILE = re.compile(r"=q\d+(\+|$)")  # in the name of a slice
Counts = tuple[int, int]
"""Correct rows, and all rows."""


def collect_evidence(
    reports_uri: str,
    report: Report,
    baseline: Report | None,
    checks: Sequence[Check],
    baseline_name: str = "previous",
) -> list[Evidence]:
    """Collects the evidence for each check, in the order of the checks.

    Args:
        reports_uri: the folder of all reports.
        baseline: the report that a drop is measured against; None where there is none yet.
        baseline_name: how the gate names it, as `GateConfig.baseline`.
    """
    counts = _ReportCounts.of(report)
    accuracies = {
        check: _find_accuracy_evidence(check, counts) for check in checks if check.check == "min_accuracy"
    }
    drops = [check for check in checks if check.check == "max_drop"]
    if not drops or baseline is None:
        found = {**accuracies, **dict.fromkeys(drops, _no_baseline(baseline_name, report.record.subject.run))}
    else:
        found = {**accuracies, **_find_drop_evidence(reports_uri, report, baseline, counts, drops)}
    return [found[check] for check in checks]


def accuracy_evidence(correct: int, rows: int, minimum: float) -> Evidence:
    """Returns the evidence for an accuracy of at least `minimum`."""
    fraction, low, high = proportion(correct, rows)
    if fraction is None:
        return Evidence(note="there are no rows")
    return Evidence(
        observed=fraction, low=low, high=high, p_value=significance.below_p(correct, rows, minimum)
    )


def paired_drop_evidence(only_before: int, only_now: int, rows: int, limit: float) -> Evidence:
    """Returns the evidence for a drop of at most `limit`, from rows that both models scored.

    Args:
        only_before: rows that only the baseline has right.
        only_now: rows that only the new model has right.
    """
    if not rows:
        return Evidence(note="there are no rows")
    low, high = paired_interval(only_before, only_now, rows)
    return Evidence(
        observed=(only_before - only_now) / rows,
        # The interval is of the gain; a drop is the negative gain.
        low=-float(high),
        high=-float(low),
        p_value=significance.paired_drop_p(only_before, only_now, rows, limit),
    )


def unpaired_drop_evidence(before: Counts, now: Counts, limit: float, note: str) -> Evidence:
    """Returns the evidence for a drop of at most `limit`, from the counts of two models.

    Args:
        before: correct rows and all rows of the baseline.
        now: the same of the new model.
        note: why the rows are not paired.
    """
    if not before[1] or not now[1]:
        return Evidence(note="there are no rows")
    low, high = unpaired_interval(*before, *now)
    return Evidence(
        # Exact fractions: as floats, 0.90 - 0.89 is more than 0.01.
        observed=float(Fraction(*before) - Fraction(*now)),
        low=-float(high),
        high=-float(low),
        p_value=significance.unpaired_drop_p(*before, *now, limit),
        note=note,
    )


@dataclass(frozen=True, kw_only=True)
class _ReportCounts:
    """The counts of everything in a report that a check may ask for."""

    overall: Counts
    classes: Mapping[str, Counts]
    slices: Mapping[str, Counts]

    @classmethod
    def of(cls, report: Report) -> _ReportCounts:
        return cls(
            overall=(report.record.correct, report.record.rows),
            classes={row["class_name"]: (row["correct"], row["support"]) for row in report.classes},
            slices={row["slice"]: (row["correct"], row["rows"]) for row in report.slices},
        )

    def find(self, check: Check) -> Counts | None:
        """Returns the counts for a check; None where the report has no such class or slice."""
        if check.class_name is not None:
            return self.classes.get(check.class_name)
        return self.overall if check.slice is None else self.slices.get(check.slice)


def _no_baseline(baseline_name: str, run: str | None) -> Evidence:
    """Returns the evidence for a drop where there is nothing to compare with: that is no drop, if it is ordinary."""
    named = find_baseline_run(baseline_name)
    if named is not None:
        note = f"no report of the run {named} on the same rows"
        return Evidence(note=note, passes_without=named == run)
    notes = {
        "previous": "no earlier report on the same rows of this run, or of this recipe and model",
        "previous-run": "no report on the same rows of an earlier run of this recipe and model",
        "best-of-run": "no earlier report of this run on the same rows",
    }
    return Evidence(note=notes.get(baseline_name, "no earlier report on the same rows"), passes_without=True)


def _find_accuracy_evidence(check: Check, counts: _ReportCounts) -> Evidence:
    found = counts.find(check)
    return _missing(check, counts, "the report") if found is None else accuracy_evidence(*found, check.limit)


def _find_drop_evidence(
    reports_uri: str, report: Report, baseline: Report, counts: _ReportCounts, checks: Sequence[Check]
) -> dict[Check, Evidence]:
    before = _ReportCounts.of(baseline)
    paired = pair_rows(reports_uri, (baseline.record, report.record))
    class_names = list(counts.classes)
    cuts = {each.record.subject.evaluation.get("slice_quantiles") for each in (baseline, report)}
    return {
        check: _find_drop(check, before, counts, paired, class_names, same_cuts=len(cuts) == 1)
        for check in checks
    }


def _find_drop(
    check: Check,
    before: _ReportCounts,
    now: _ReportCounts,
    paired: PairedRows | Unpaired,
    class_names: Sequence[str],
    *,
    same_cuts: bool,
) -> Evidence:
    counts_before, counts_now = before.find(check), now.find(check)
    if counts_now is None:
        return _missing(check, now, "the report")
    chosen = _choose_rows(check, paired, class_names)
    if not isinstance(paired, Unpaired) and not isinstance(chosen, str):
        right_before, right_now = paired.right
        only_before, only_now = right_before & ~right_now & chosen, right_now & ~right_before & chosen
        rows = int(chosen.sum())
        return paired_drop_evidence(int(only_before.sum()), int(only_now.sum()), rows, check.limit)
    if counts_before is None:
        return _missing(check, before, "the baseline")
    if check.class_name is None and before.classes.keys() != now.classes.keys():
        return Evidence(note=_say_other_classes(before.classes, now.classes))
    if check.slice is not None and not same_cuts and _QUANTILE.search(check.slice):
        return Evidence(note="the baseline is cut into another number of quantiles (--slice-quantiles)")
    return unpaired_drop_evidence(counts_before, counts_now, check.limit, f"not paired row by row: {chosen}")


def _choose_rows(
    check: Check, paired: PairedRows | Unpaired, class_names: Sequence[str]
) -> NDArray[np.bool_] | str:
    """Returns which paired rows a check is about, bool [rows]; or why that is not known, as a part of a sentence."""
    if isinstance(paired, Unpaired):
        return paired.reason
    if check.slice is not None:
        found = None if paired.slices is None else rows_in_slice(paired.slices, check.slice)
        return "predictions do not record this slice" if found is None else found
    if check.class_name is not None:
        of_class: NDArray[np.bool_] = paired.labels == class_names.index(check.class_name)
        return of_class
    return np.ones(len(paired.ids), np.bool_)


def _say_other_classes(before: Collection[str], now: Collection[str]) -> str:
    """Says why accuracies over different classes are not compared: to tell more classes apart is another task."""
    only_before, only_now = (sorted(set(a) - set(b)) for a, b in ((before, now), (now, before)))
    words = [
        f"{which} alone has {names[0]!r}"
        for which, names in (("it", only_before), ("the report", only_now))
        if names
    ]
    return f"the baseline has other classes: {' and '.join(words)}"


def _missing(check: Check, counts: _ReportCounts, where: str) -> Evidence:
    name, known = (check.class_name, counts.classes) if check.slice is None else (check.slice, counts.slices)
    hint = f". {nearest(str(name), known)}".rstrip(".") if known else "; it has none"
    return Evidence(note=f"{where} has no {check.scope} {name!r}{hint}")
