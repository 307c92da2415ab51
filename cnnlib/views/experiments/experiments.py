"""A folder of reports in; out comes how models compare in accuracy and cost, and how each cost grows with the image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.models.growth import Growth
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import list_reports, read_overall
from cnnlib.storage.uri import uri_name


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A model's best report on one split of one dataset.

    Attributes:
        model: its registered name, or its file's.
        record: what the report's manifest says.
        reports: how many reports it is the best of. It was chosen by the rows that it was scored on, so it flatters
            the model a little where there are many.
        parameters: numbers that the model holds; None if unknown.
        flops_per_image: floating-point operations of one prediction; None if unknown.
        images_per_s: speed of that evaluation; None where no time passed.
    """

    model: str
    record: ReportRecord
    reports: int
    parameters: int | None
    flops_per_image: int | None
    images_per_s: float | None

    def to_row(self) -> dict[str, Any]:
        """The experiment as flat columns; those of `ReportRecord.to_row` and four more."""
        return {
            **self.record.to_row(),
            "model": self.model,
            "reports": self.reports,
            "parameters": self.parameters,
            "flops_per_image": self.flops_per_image,
            "images_per_s": self.images_per_s,
        }


def list_experiments(reports_uri: str) -> list[Experiment]:
    """The best report of each model on each split; the newest of equal ones. By data, then best first.

    Raises:
        ReportError: there are no reports, or one is damaged.
    """
    groups = defaultdict(list)
    for record in list_reports(reports_uri):
        groups[_model_name(record), *record.scored_rows].append(record)
    # Newest first comes from the list, and max keeps the first of equal ones.
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


def growth_to_row(growth: Growth) -> dict[str, Any]:
    """A cost at one image size as flat JSON values."""
    height, width, channels = growth.image_shape
    return {
        "model": growth.model,
        "height": height,
        "width": width,
        "channels": channels,
        "parameters": growth.cost.parameters,
        "flops_per_image": growth.cost.flops,
        "activation_bytes": growth.cost.activation_bytes,
    }


def describe_growth(growths: Sequence[Growth]) -> list[str]:
    """For every model a sentence: how much more it takes for the largest image than for the smallest.

    >>> from cnnlib.models.growth import list_growth
    >>> describe_growth(list_growth())[-1]
    'dnn: parameters x9,030, operations x9,045, activations x7,041.'
    """
    sentences = []
    for model in dict.fromkeys(growth.model for growth in growths):
        own = [growth.cost for growth in growths if growth.model == model]
        small, large = own[0], own[-1]
        factors = {
            "parameters": large.parameters / small.parameters,
            "operations": large.flops / small.flops,
            "activations": large.activation_bytes / small.activation_bytes,
        }
        parts = (
            f"the same {what}" if factor == 1 else f"{what} x{factor:,.0f}"
            for what, factor in factors.items()
        )
        sentences.append(f"{model}: {', '.join(parts)}.")
    return sentences


def _read_costs(reports_uri: str, record: ReportRecord) -> dict[str, Any]:
    """What a report says of its model's cost; None for what it does not know."""
    overall = next(row for row in read_overall(reports_uri, record) if row["slice"] is None)
    return {name: overall[name] for name in ("parameters", "flops_per_image", "images_per_s")}


def _model_name(record: ReportRecord) -> str:
    return record.subject.model or uri_name(record.subject.checkpoint_uri)


def _accuracy(record: ReportRecord) -> float:
    return -1.0 if record.accuracy.fraction is None else record.accuracy.fraction


def _order(experiment: Experiment) -> tuple[str, str, float, str]:
    subject = experiment.record.subject
    return subject.dataset_uri, subject.split, -_accuracy(experiment.record), experiment.model
