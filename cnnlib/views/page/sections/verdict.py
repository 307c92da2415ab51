"""Rows of the table `gates` in, one verdict out; and whether an accuracy is clearly worse than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.gates.verdicts import worst, worst_first
from cnnlib.views.page import formatting

_MIN_SHOWN = 3
MAX_CHECKS = 50
"""At most so many checks are visible, and so many collapsed: a check of every class may be thousands."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The worst verdict of all checks, a sentence, and the checks, worst first."""

    verdict: str
    sentence: str
    checks: Sequence[Mapping[str, Any]]

    @property
    def shown(self) -> Sequence[Mapping[str, Any]]:
        """The visible checks: those that did not pass, at most `MAX_CHECKS`, or the first few."""
        not_passed = sum(check["verdict"] != "pass" for check in self.checks)
        return self.checks[: min(max(not_passed, _MIN_SHOWN), MAX_CHECKS)]

    @property
    def folded(self) -> Sequence[Mapping[str, Any]]:
        """The collapsed checks, all of which passed, at most `MAX_CHECKS`."""
        passed = [check for check in self.checks[len(self.shown) :] if check["verdict"] == "pass"]
        return passed[:MAX_CHECKS]

    @property
    def left_out(self) -> int:
        """How many checks are neither visible nor collapsed."""
        return len(self.checks) - len(self.shown) - len(self.folded)


def worst_verdict(gates: Sequence[Mapping[str, Any]]) -> str:
    """Returns the worst verdict of some rows of `gates`; empty without rows.

    >>> worst_verdict([{"verdict": "pass"}, {"verdict": "fail"}])
    'fail'
    """
    return worst(row["verdict"] for row in gates) if gates else ""


def build_verdict(gates: Sequence[Mapping[str, Any]]) -> Verdict | None:
    """Summarises the checks; None without checks."""
    if not gates:
        return None
    verdict = worst_verdict(gates)
    count = sum(row["verdict"] == verdict for row in gates)
    checks = formatting.plural(len(gates), "check")
    sentences = {
        "pass": f"{checks} passed.",
        "fail": f"{count} of {checks} failed.",
        "inconclusive": f"{count} of {checks} could not be decided with this number of images.",
    }
    ordered = sorted(gates, key=worst_first)
    return Verdict(verdict=verdict, sentence=sentences[verdict], checks=ordered)


def lies_below(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Returns whether an accuracy's whole interval lies below the previous one's; False if either has no rows."""
    if row["accuracy_high"] is None or before["accuracy_low"] is None:
        return False
    return bool(row["accuracy_high"] < before["accuracy_low"])
