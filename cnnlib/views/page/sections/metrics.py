"""A row of the table `overall` in, the metrics that the page shows beneath the accuracy out, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.percent import format_percent
from cnnlib.views.page import formatting

_METRICS = (
    (
        "top_k_accuracy",
        "Top-{top_k} accuracy",
        "the true class is among the {top_k} most probable classes",
    ),
    ("macro_f1", "Macro F1", "F1, averaged over the classes"),
    ("macro_auc", "Macro ROC AUC", "area under the ROC curve, one class against the rest, averaged"),
    ("loss", "Log loss", "mean cross-entropy in nats; lower is better"),
    ("brier", "Brier score", "squared error of the probabilities, 0 to 2; lower is better"),
    (
        "ece",
        "Calibration error",
        "expected difference between confidence and accuracy (ECE); lower is better",
    ),
)
_FRACTIONS = ("top_k_accuracy", "macro_f1")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric with its interval, as text; `doc` defines it."""

    name: str
    value: str
    interval: str
    doc: str


def headline_metrics(overall: Mapping[str, Any]) -> list[Metric]:
    """Formats the metrics beneath the accuracy; leaves out those that the report does not have."""
    return [
        _metric(overall, column, name, doc) for column, name, doc in _METRICS if overall[column] is not None
    ]


def _metric(overall: Mapping[str, Any], column: str, name: str, doc: str) -> Metric:
    top_k = overall["top_k"]
    low, high = overall[f"{column}_low"], overall[f"{column}_high"]
    if column in _FRACTIONS:
        value, interval = format_percent(overall[column]), formatting.percent_range(low, high)
    else:
        value, interval = formatting.number(overall[column]), formatting.number_range(low, high)
    return Metric(name=name.format(top_k=top_k), value=value, interval=interval, doc=doc.format(top_k=top_k))
