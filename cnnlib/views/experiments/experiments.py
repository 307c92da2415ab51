"""A folder of reports in, the accuracy and the cost of each model out, and how costs grow with the image size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.models.cost_table import CostAtSize
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import list_reports, read_overall
from cnnlib.storage.uri import uri_name


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A model's best report on one split of one dataset.

    Attributes:
        model: the model's registered name, or the name of its file.
        record: the manifest of the report.
        reports: number of reports that it is the best of. They were compared on the rows that they were scored on, so
            with many reports the accuracy is a little too high.
        parameters: number of the model's parameters, trained or not; None if unknown.
        flops_per_image: floating-point operations of one prediction; None if unknown.
        images_per_s: speed of the evaluation; None if no time passed.
    """

    model: str
    record: ReportRecord
    reports: int
    parameters: int | None
    flops_per_image: int | None
    images_per_s: float | None

    def to_row(self) -> dict[str, Any]:
        """Returns the columns of `ReportRecord.to_row`, where `model` is never None here, and four more."""
        return {
            **self.record.to_row(),
            "model": self.model,
            "reports": self.reports,
            "parameters": self.parameters,
            "flops_per_image": self.flops_per_image,
            "images_per_s": self.images_per_s,
        }


def list_experiments(reports_uri: str) -> list[Experiment]:
    """Reads the best report of each model on each split, sorted by data and then by accuracy, the best first.

    Of several reports with the same accuracy it takes the newest.

    Raises:
        ReportError: there are no reports, or one is damaged.
    """
    groups = defaultdict(list)
    for record in list_reports(reports_uri):
        groups[_model_name(record), *record.scored_rows].append(record)
    # The list is sorted newest first, and max keeps the first of equal ones.
    chosen = [(max(records, key=_accuracy), len(records)) for records in groups.values()]
    experiments = [
        Experiment(
            model=_model_name(record),
            record=record,
            reports=reports,
            **_read_costs(reports_uri, record),
        )
        for record, reports in chosen
    ]
    return sorted(experiments, key=_order)


def describe_growth(costs: Sequence[CostAtSize]) -> list[str]:
    """Returns a sentence per model: how much more the largest image costs than the smallest.

    >>> from cnnlib.models.cost_table import load_cost_table
    >>> describe_growth(load_cost_table())[-1]
    'dnn: parameters x9,030, operations x9,045, activations x7,041.'
    """
    sentences = []
    for model in dict.fromkeys(cost.model for cost in costs):
        of_model = [cost for cost in costs if cost.model == model]
        smallest, largest = of_model[0], of_model[-1]
        factors = {
            "parameters": largest.parameters / smallest.parameters,
            "operations": largest.flops_per_image / smallest.flops_per_image,
            "activations": largest.activation_bytes / smallest.activation_bytes,
        }
        phrases = (
            f"the same {name}" if factor == 1 else f"{name} x{factor:,.0f}"
            for name, factor in factors.items()
        )
        sentences.append(f"{model}: {', '.join(phrases)}.")
    return sentences


def _read_costs(reports_uri: str, record: ReportRecord) -> dict[str, Any]:
    """Reads the cost columns of a report; None for an unknown cost."""
    overall = next(row for row in read_overall(reports_uri, record) if row["slice"] is None)
    return {name: overall[name] for name in ("parameters", "flops_per_image", "images_per_s")}


def _model_name(record: ReportRecord) -> str:
    return record.subject.model or uri_name(record.subject.checkpoint_uri)


def _accuracy(record: ReportRecord) -> float:
    return -1.0 if record.accuracy.fraction is None else record.accuracy.fraction


def _order(experiment: Experiment) -> tuple[str, str, float, str]:
    subject = experiment.record.subject
    return subject.dataset_uri, subject.split, -_accuracy(experiment.record), experiment.model
