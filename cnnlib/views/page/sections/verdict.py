"""Rows of the table `gates` in, one verdict out; and when an accuracy is clearly worse than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.gates.verdicts import worst, worst_first
from cnnlib.views.page import formatting

_MIN_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gates say together: the worst of their verdicts, and each check, worst first."""

    verdict: str
    sentence: str
    checks: Sequence[Mapping[str, Any]]

    @property
    def shown(self) -> Sequence[Mapping[str, Any]]:
        """The checks that stand open: all that did not pass, or else the first few."""
        open_ones = sum(check["verdict"] != "pass" for check in self.checks)
        return self.checks[: max(open_ones, _MIN_SHOWN)]

    @property
    def folded(self) -> Sequence[Mapping[str, Any]]:
        """The others, all of which passed."""
        return self.checks[len(self.shown) :]


def worst_verdict(gates: Sequence[Mapping[str, Any]]) -> str:
    """The worst verdict of some rows of `gates`; empty where there are none.

    >>> worst_verdict([{"verdict": "pass"}, {"verdict": "fail"}])
    'fail'
    """
    return worst(row["verdict"] for row in gates) if gates else ""


def build_verdict(gates: Sequence[Mapping[str, Any]]) -> Verdict | None:
    """What the checks say together; None where there are none."""
    if not gates:
        return None
    verdict = worst_verdict(gates)
    of_it = sum(row["verdict"] == verdict for row in gates)
    checks = formatting.plural(len(gates), "check")
    said = {
        "pass": f"{checks} passed.",
        "fail": f"{of_it} of {checks} failed.",
        "inconclusive": f"{of_it} of {checks} cannot be decided with these rows.",
    }
    ordered = sorted(gates, key=worst_first)
    return Verdict(verdict=verdict, sentence=said[verdict], checks=ordered)


def lies_below(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether all of an accuracy's interval lies below the one before; False where either has no rows."""
    if row["accuracy_high"] is None or before["accuracy_low"] is None:
        return False
    return bool(row["accuracy_high"] < before["accuracy_low"])
