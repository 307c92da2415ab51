"""Limits and counts in, verdicts out. What pass, fail and inconclusive mean is decided here, and nowhere else.

pass          The observed accuracy, or drop, keeps its limit. Equal predictions keep a max_drop of 0.
fail          It breaks the limit, and by more than chance explains: the one-sided p-value of the limit being kept,
              adjusted by Holm over all checks, is at most the level of significance. So a model whose true accuracies
              keep all limits fails at most so often, however many checks there are.
inconclusive  It breaks the limit, but chance alone might do so; or there are no rows to tell.

At significance 0 there are no tests: what breaks its limit fails. The tests: an accuracy against its minimum by the
exact binomial test; a drop by McNemar's exact test, or for a limit above 0 an exact test of the paired score
statistic; on rows that cannot be paired by Fisher's exact test and the score test of Farrington and Manning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from cnnlib.gate_config import GateConfig, Limits
from cnnlib.gates.verdicts import Verdict
from cnnlib.metrics import significance
from cnnlib.metrics.per_class import proportion
from cnnlib.reports.percent import format_percent

CheckName = Literal["min_accuracy", "max_drop"]
Scope = Literal["overall", "class", "slice"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One limit on one thing: a class, a slice, or all rows where both are None."""

    check: CheckName
    limit: float
    slice: str | None = None
    class_name: str | None = None

    @property
    def scope(self) -> Scope:
        """What it is asked of."""
        if self.class_name is not None:
            return "class"
        return "overall" if self.slice is None else "slice"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was observed for a check.

    Attributes:
        observed: the accuracy, or by how much it fell, 0..1; None where it could not be observed.
        low: lower end of its two-sided 95 % interval.
        high: upper end.
        p_value: one-sided, of the limit being kept; None without an observation.
        note: why there is no observation, or what weakens it.
        passes_without: without an observation, whether that is a pass; else it is inconclusive.
    """

    observed: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    note: str = ""
    passes_without: bool = False


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A check and its verdict.

    Attributes:
        p_value: the evidence's, adjusted by Holm over all checks; None without a test.
        reason: the verdict in words.
    """

    check: Check
    evidence: Evidence
    p_value: float | None
    verdict: Verdict
    reason: str


def list_checks(gates: GateConfig, classes: Iterable[str]) -> list[Check]:
    """Every check of some gates.

    Args:
        classes: names of the classes that have rows, for `every_class`.
    """
    names = list(classes)
    return [
        *_checks_of("min_accuracy", gates.min_accuracy, names),
        *_checks_of("max_drop", gates.max_drop, names),
    ]


def accuracy_evidence(correct: int, rows: int, minimum: float) -> Evidence:
    """What some rows say of an accuracy of at least `minimum`."""
    fraction, low, high = proportion(correct, rows)
    if fraction is None:
        return Evidence(note="there are no rows")
    return Evidence(
        observed=fraction, low=low, high=high, p_value=significance.below_p(correct, rows, minimum)
    )


def paired_drop_evidence(only_before: int, only_now: int, rows: int, limit: float) -> Evidence:
    """What rows that both models scored say of a drop of at most `limit`.

    Args:
        only_before: rows that only the baseline has right.
        only_now: rows that only the new model has right.
    """
    if not rows:
        return Evidence(note="there are no rows")
    low, high = significance.paired_interval(only_before, only_now, rows)
    return Evidence(
        observed=(only_before - only_now) / rows,
        low=-float(high),
        high=-float(low),
        p_value=significance.paired_drop_p(only_before, only_now, rows, limit),
    )


def unpaired_drop_evidence(
    before: tuple[int, int], now: tuple[int, int], limit: float, note: str
) -> Evidence:
    """What two models' counts say of a drop of at most `limit`.

    Args:
        before: right rows and all rows of the baseline.
        now: the same of the new model.
        note: why the rows are not paired.
    """
    if not before[1] or not now[1]:
        return Evidence(note="there are no rows")
    low, high = significance.unpaired_interval(*before, *now)
    return Evidence(
        # As a fraction: 0.90 - 0.89 is more than 0.01 to a computer.
        observed=float(Fraction(*before) - Fraction(*now)),
        low=-float(high),
        high=-float(low),
        p_value=significance.unpaired_drop_p(*before, *now, limit),
        note=note,
    )


def judge(checks: Sequence[Check], evidence: Sequence[Evidence], level: float) -> list[Judged]:
    """The verdict of every check.

    Args:
        evidence: of each check, in their order.
        level: the significance of the gates; 0: without tests.

    >>> check = Check(check="min_accuracy", limit=0.9)
    >>> [judge([check], [accuracy_evidence(n, 100, 0.9)], 0.05)[0].verdict for n in (90, 87, 80)]
    ['pass', 'inconclusive', 'fail']
    """
    tested = [each.p_value for each in evidence if each.p_value is not None and level > 0]
    adjusted = iter(significance.holm(tested))
    return [
        _judge(check, each, next(adjusted) if each.p_value is not None and level > 0 else None, level)
        for check, each in zip(checks, evidence, strict=True)
    ]


def _checks_of(check: CheckName, limits: Limits, classes: Sequence[str]) -> Iterable[Check]:
    if limits.overall is not None:
        yield Check(check=check, limit=limits.overall)
    of_class = {} if limits.every_class is None else dict.fromkeys(classes, limits.every_class)
    for name, limit in {**of_class, **limits.classes}.items():
        yield Check(check=check, limit=limit, class_name=name)
    for name, limit in limits.slices.items():
        yield Check(check=check, limit=limit, slice=name)


def _judge(check: Check, evidence: Evidence, p_value: float | None, level: float) -> Judged:
    if evidence.observed is None:
        verdict: Verdict = "pass" if evidence.passes_without else "inconclusive"
        return Judged(
            check=check, evidence=evidence, p_value=None, verdict=verdict, reason=f"{evidence.note}."
        )
    is_floor = check.check == "min_accuracy"
    if evidence.observed >= check.limit if is_floor else evidence.observed <= check.limit:
        verdict = "pass"
    elif p_value is None or p_value <= level:
        verdict = "fail"
    else:
        verdict = "inconclusive"
    said = _say_accuracy(check, evidence.observed) if is_floor else _say_drop(check, evidence.observed)
    note = f"; {evidence.note}" if evidence.note else ""
    return Judged(
        check=check,
        evidence=evidence,
        p_value=p_value,
        verdict=verdict,
        reason=f"{said}{_say_chance(verdict, p_value)}{note}.",
    )


def _say_accuracy(check: Check, observed: float) -> str:
    how = "at least" if observed >= check.limit else "below"
    return f"{format_percent(observed, 2)} is {how} {format_percent(check.limit, 2)}"


def _say_drop(check: Check, observed: float) -> str:
    if not observed:
        return "no drop"
    if observed < 0:
        return f"up by {format_percent(-observed, 2, unit=' points')}"
    drop, allowed = format_percent(observed, 2, unit=" points"), format_percent(check.limit, 2, unit="")
    return f"down by {drop}, {'of' if observed <= check.limit else 'more than'} {allowed} allowed"


def _say_chance(verdict: Verdict, p_value: float | None) -> str:
    if verdict == "pass" or p_value is None:
        return ""
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f", {chance}" if verdict == "fail" else f", but that may be chance ({chance})"
