"""Several reports in; a ranking by accuracy out, with groups of models that the tests cannot distinguish."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.metrics import significance
from cnnlib.reports.comparison import LEVEL
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.pairing import PairedRows, Unpaired, pair_rows
from cnnlib.reports.read import Report
from cnnlib.reports.subject import SHORT_ID_DIGITS


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A report in a ranking.

    Attributes:
        groups: letters of a compact letter display; reports that share one are not distinguishable.
    """

    record: ReportRecord
    groups: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PairTest:
    """The test of two ranked reports, given by their ids.

    Attributes:
        p_value: two-sided, for the hypothesis that both accuracies are equal; adjusted by Holm over all pairs.
    """

    better: str
    worse: str
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Reports by their accuracy, the highest first.

    Attributes:
        pairs: the test of every pair.
        unpaired_because: why the rows are not paired; None where they are.
    """

    reports: tuple[Ranked, ...]
    pairs: tuple[PairTest, ...]
    unpaired_because: str | None

    @property
    def words(self) -> str:
        """The ranking as a sentence."""
        best, *others = self.reports
        equals = [_name(each) for each in others if set(each.groups) & set(best.groups)]
        if not equals:
            return f"{_name(best)} is better than all others."
        return f"{_name(best)} has the highest accuracy; not distinguishable from it: {', '.join(equals)}."

    def to_row(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {
            "words": self.words,
            "unpaired_because": self.unpaired_because,
            "ranking": [{**each.record.to_row(), "groups": list(each.groups)} for each in self.reports],
            "pairs": [
                {"better": pair.better, "worse": pair.worse, "p_value": pair.p_value} for pair in self.pairs
            ],
        }


def rank_reports(reports_uri: str, reports: Sequence[Report]) -> Ranking:
    """Ranks reports by their accuracy and tests every pair, row by row where the rows of all can be paired.

    Args:
        reports_uri: the folder of all reports.
        reports: at least two, of splits that have rows.
    """
    records = sorted(
        (report.record for report in reports),
        key=lambda each: (-(each.accuracy.fraction or 0.0), each.report_id),
    )
    paired = pair_rows(reports_uri, records)
    pairs = list(itertools.combinations(range(len(records)), 2))
    p_values = significance.holm([_pair_p(records, paired, *pair) for pair in pairs])
    groups = compact_letter_display(
        len(records), [pair for pair, p in zip(pairs, p_values, strict=True) if p <= LEVEL]
    )
    return Ranking(
        reports=tuple(
            Ranked(record=record, groups=group) for record, group in zip(records, groups, strict=True)
        ),
        pairs=tuple(
            PairTest(better=records[first].report_id, worse=records[second].report_id, p_value=p)
            for (first, second), p in zip(pairs, p_values, strict=True)
        ),
        unpaired_because=paired.reason if isinstance(paired, Unpaired) else None,
    )


def compact_letter_display(count: int, different: Iterable[tuple[int, int]]) -> list[tuple[str, ...]]:
    """Returns the letters of each of `count` models, so that two models share a letter unless they are different.

    "Not different" is not transitive: the second may be distinguishable neither from the first nor from the third,
    which differ. So one rank per model cannot state the result, and the letters save a table of all pairs.

    The algorithm is insert-and-absorb: each difference splits every group that holds both models, and a group within
    another one is dropped. Source: H.-P. Piepho, "An algorithm for a letter-based representation of all-pairwise
    comparisons", Journal of Computational and Graphical Statistics 13 (2004), 456-466.

    Args:
        count: number of models.
        different: pairs of indexes of models that the tests distinguish.

    >>> compact_letter_display(3, [(0, 2)])
    [('a',), ('a', 'b'), ('b',)]
    """
    groups = [frozenset(range(count))]
    for first, second in different:
        split = [
            part
            for group in groups
            for part in ((group - {first}, group - {second}) if {first, second} <= group else (group,))
        ]
        groups = [part for part in dict.fromkeys(split) if not any(part < other for other in split)]
    groups.sort(key=sorted)
    return [
        tuple(_letter(index) for index, group in enumerate(groups) if model in group)
        for model in range(count)
    ]


def _letter(index: int) -> str:
    """Returns a..z, then aa, ab, …, like the columns of a spreadsheet."""
    before, last = divmod(index, 26)
    return (_letter(before - 1) if before else "") + string.ascii_lowercase[last]


def _name(ranked: Ranked) -> str:
    return f"{ranked.record.subject.model_label} ({ranked.record.report_id[:SHORT_ID_DIGITS]})"


def _pair_p(records: Sequence[ReportRecord], paired: PairedRows | Unpaired, a: int, b: int) -> float:
    if isinstance(paired, Unpaired):
        return significance.unpaired_p(
            records[a].correct, records[a].rows, records[b].correct, records[b].rows
        )
    right_a, right_b = paired.right[a], paired.right[b]
    return significance.mcnemar_p(int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()))
