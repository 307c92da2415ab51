"""A row of the table `overall` in, the figures below the accuracy out, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.percent import format_percent
from cnnlib.views.page import formatting

_METRICS = (
    ("top_k_accuracy", "", "the true class is among the most probable ones"),
    ("macro_f1", "Macro F1", "mean over the classes of F1"),
    ("macro_auc", "Macro ROC AUC", "mean over the classes, each against the rest"),
    ("loss", "Log loss", "mean cross-entropy in nats; lower is better"),
    ("brier", "Brier score", "squared error of the probabilities, 0 to 2; lower is better"),
    ("ece", "Calibration error", "how far confidence is from accuracy; lower is better"),
)
_SHARES = ("top_k_accuracy", "macro_f1")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure with its interval, as text; `doc` says what it is."""

    name: str
    value: str
    interval: str
    doc: str


def headline_metrics(overall: Mapping[str, Any]) -> list[Metric]:
    """The figures below the accuracy; those that the report has."""
    return [
        _metric(overall, column, name or f"Top-{overall['top_k']} accuracy", doc)
        for column, name, doc in _METRICS
        if overall[column] is not None
    ]


def _metric(overall: Mapping[str, Any], column: str, name: str, doc: str) -> Metric:
    low, high = overall[f"{column}_low"], overall[f"{column}_high"]
    if column in _SHARES:
        value, interval = format_percent(overall[column]), formatting.percent_range(low, high)
    else:
        value, interval = formatting.number(overall[column]), formatting.number_range(low, high)
    return Metric(name=name, value=value, interval=interval, doc=doc)
