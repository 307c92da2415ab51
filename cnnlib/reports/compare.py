"""The classes of two reports in, their differences in accuracy out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnlib.metrics.per_class import Proportion

_NO_ROWS = Proportion(None, None, None)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the accuracy of one class, or of all, differs between report A and report B.

    Attributes:
        name: the class.
        a: accuracy in A; all None where A has no rows of it.
        b: the same in B.
        points: b - a in percentage points; None where either has no rows.
        intervals_overlap: False where the two 95 % intervals have no value in common. That is a hint where to
            look and no test of significance: it ignores that both models may have seen the same rows.
    """

    name: str
    a: Proportion
    b: Proportion
    points: float | None
    intervals_overlap: bool

    def to_row(self) -> dict[str, Any]:
        """The difference as flat JSON values."""
        return {
            "class_name": self.name,
            "accuracy_a": self.a.share,
            "accuracy_b": self.b.share,
            "points": self.points,
            "intervals_overlap": self.intervals_overlap,
        }


def compare_accuracies(name: str, a: Proportion, b: Proportion) -> Difference:
    """The difference between two accuracies.

    >>> compare_accuracies("Coat", Proportion(0.5, 0.4, 0.6), Proportion(0.75, 0.7, 0.8)).points
    25.0
    """
    points = None if a.share is None or b.share is None else 100 * (b.share - a.share)
    return Difference(
        name=name, a=a, b=b, points=points, intervals_overlap=not (_below(a, b) or _below(b, a))
    )


def compare_classes(a: Iterable[Mapping[str, Any]], b: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """The difference of every class, matched by name: A's classes in their order, then those only B has.

    Args:
        a: rows of A's table `per_class`, as column -> value.
        b: the same of B.
    """
    of_a, of_b = ({row["class_name"]: accuracy_of(row) for row in rows} for rows in (a, b))
    return [
        compare_accuracies(name, of_a.get(name, _NO_ROWS), of_b.get(name, _NO_ROWS)) for name in of_a | of_b
    ]


def accuracy_of(row: Mapping[str, Any]) -> Proportion:
    """The accuracy in a row of `per_class` or `overall`, with its interval."""
    return Proportion(row["accuracy"], row["accuracy_low"], row["accuracy_high"])


def _below(lower: Proportion, upper: Proportion) -> bool:
    """Whether all of one interval lies below the other; False where there is none."""
    return lower.high is not None and upper.low is not None and lower.high < upper.low
