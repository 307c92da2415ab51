"""Rows of the table `calibration` in, the reliability diagram and its sentence out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.percent import format_percent

_MIN_GAP = 0.0005  # a smaller one is 0.0 points


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """The bins of the reliability diagram that have rows.

    Attributes:
        max_rows: rows of the fullest bin; the histogram's scale.
    """

    bins: Sequence[Mapping[str, Any]]
    max_rows: int
    sentence: str


def build_reliability(rows: Sequence[Mapping[str, Any]]) -> Reliability | None:
    """Lays out the reliability diagram; None without rows."""
    bins = [row for row in rows if row["rows"]]
    if not bins:
        return None
    total = sum(row["rows"] for row in bins)
    confidence = math.fsum(row["confidence"] * row["rows"] for row in bins) / total
    accuracy = sum(row["hits"] for row in bins) / total
    return Reliability(
        bins=bins, max_rows=max(row["rows"] for row in bins), sentence=_describe(confidence, accuracy)
    )


def _describe(confidence: float, accuracy: float) -> str:
    gap = confidence - accuracy
    if abs(gap) < _MIN_GAP:
        verdict = "neither overconfident nor underconfident on average"
    else:
        verdict = f"{'over' if gap > 0 else 'under'}confident by {format_percent(abs(gap), unit=' points')}"
    return (
        f"The mean confidence is {format_percent(confidence)} and the accuracy {format_percent(accuracy)}: "
        f"the model is {verdict}."
    )
