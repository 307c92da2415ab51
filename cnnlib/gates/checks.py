"""A gate's checks: limits and evidence in, verdicts out. What pass, fail and inconclusive mean is decided only here.

pass          The observed accuracy, or drop, keeps its limit. Equal predictions keep a max_drop of 0.
fail          It breaks the limit by more than chance explains: the one-sided p-value for the hypothesis that the
              limit holds, adjusted by Holm over all checks, is at most the level of significance. So a model whose true
              accuracies keep all limits fails at most that often, whatever the number of checks.
inconclusive  It breaks the limit, but chance alone may explain that; or nothing could be observed.

At significance 0 there are no tests: an observed value that breaks its limit fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cnnlib.gate_config import GateConfig, Limits
from cnnlib.gates.verdicts import Verdict
from cnnlib.metrics import significance
from cnnlib.reports.percent import format_percent

CheckName = Literal["min_accuracy", "max_drop"]
Scope = Literal["overall", "class", "slice"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One limit on one class, on one slice, or on all rows where both are None."""

    check: CheckName
    limit: float
    slice: str | None = None
    class_name: str | None = None

    @property
    def scope(self) -> Scope:
        """What is checked."""
        if self.class_name is not None:
            return "class"
        return "overall" if self.slice is None else "slice"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was observed for a check.

    Attributes:
        observed: the accuracy, or its drop below the baseline, as a fraction; None where it cannot be observed.
        low: lower end of its two-sided 95 % interval.
        high: upper end.
        p_value: one-sided, for the hypothesis that the limit holds; None without an observation.
        note: why there is no observation, or what weakens it; a part of a sentence.
        passes_without: True if the check passes without an observation; otherwise it is inconclusive.
    """

    observed: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    note: str = ""
    passes_without: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A check with its verdict.

    Attributes:
        p_value: the p-value of the evidence, adjusted by Holm over all checks; None without a test.
        reason: the verdict in words.
    """

    check: Check
    evidence: Evidence
    p_value: float | None
    verdict: Verdict
    reason: str


def list_checks(gate: GateConfig, classes: Iterable[str]) -> list[Check]:
    """Lists every check of a gate.

    Args:
        classes: names of the classes that have rows, for `every_class`.
    """
    names = list(classes)
    return [
        *_list_limits("min_accuracy", gate.min_accuracy, names),
        *_list_limits("max_drop", gate.max_drop, names),
    ]


def evaluate_checks(checks: Sequence[Check], evidence: Sequence[Evidence], level: float) -> list[CheckResult]:
    """Evaluates every check.

    Args:
        evidence: of each check, in the order of the checks.
        level: the gate's level of significance; 0 for no tests.

    >>> from cnnlib.gates.evidence import accuracy_evidence
    >>> check = Check(check="min_accuracy", limit=0.9)
    >>> [evaluate_checks([check], [accuracy_evidence(n, 100, 0.9)], 0.05)[0].verdict for n in (90, 87, 80)]
    ['pass', 'inconclusive', 'fail']
    """
    tested = [each.p_value for each in evidence if each.p_value is not None and level > 0]
    adjusted = iter(significance.holm(tested))
    return [
        _evaluate(check, each, next(adjusted) if each.p_value is not None and level > 0 else None, level)
        for check, each in zip(checks, evidence, strict=True)
    ]


def _list_limits(check: CheckName, limits: Limits, classes: Sequence[str]) -> Iterable[Check]:
    if limits.overall is not None:
        yield Check(check=check, limit=limits.overall)
    every_class = {} if limits.every_class is None else dict.fromkeys(classes, limits.every_class)
    for name, limit in {**every_class, **limits.classes}.items():
        yield Check(check=check, limit=limit, class_name=name)
    for name, limit in limits.slices.items():
        yield Check(check=check, limit=limit, slice=name)


def _evaluate(check: Check, evidence: Evidence, p_value: float | None, level: float) -> CheckResult:
    if evidence.observed is None:
        verdict: Verdict = "pass" if evidence.passes_without else "inconclusive"
        return CheckResult(
            check=check, evidence=evidence, p_value=None, verdict=verdict, reason=f"{evidence.note}."
        )
    is_minimum = check.check == "min_accuracy"
    if evidence.observed >= check.limit if is_minimum else evidence.observed <= check.limit:
        verdict = "pass"
    elif p_value is None or p_value <= level:
        verdict = "fail"
    else:
        verdict = "inconclusive"
    describe = _describe_accuracy if is_minimum else _describe_drop
    note = f"; {evidence.note}" if evidence.note else ""
    return CheckResult(
        check=check,
        evidence=evidence,
        p_value=p_value,
        verdict=verdict,
        reason=f"{describe(evidence.observed, check.limit)}{_describe_chance(verdict, p_value)}{note}.",
    )


def _describe_accuracy(observed: float, limit: float) -> str:
    relation = "at least" if observed >= limit else "below"
    return f"{format_percent(observed, 2)} is {relation} {format_percent(limit, 2)}"


def _describe_drop(observed: float, limit: float) -> str:
    if not observed:
        return "no drop"
    if observed < 0:
        return f"up by {format_percent(-observed, 2, unit=' points')}"
    drop, allowed = format_percent(observed, 2, unit=" points"), format_percent(limit, 2, unit="")
    return f"down by {drop}, {'of' if observed <= limit else 'more than'} {allowed} allowed"


def _describe_chance(verdict: Verdict, p_value: float | None) -> str:
    if verdict == "pass" or p_value is None:
        return ""
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f", {chance}" if verdict == "fail" else f", but that may be chance ({chance})"
