"""What a report states in, what its page shows out, in the order of the page. No storage, no HTML."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.percent import format_percent
from cnnlib.views.page.charts import LineChart
from cnnlib.views.page.images import Sheet, png_uri
from cnnlib.views.page.report_data import ReportData, Row
from cnnlib.views.page.sections.activations import Activations, build_activations
from cnnlib.views.page.sections.calibration import Reliability, build_reliability
from cnnlib.views.page.sections.comparison import ClassLine, class_lines, describe_comparison
from cnnlib.views.page.sections.confusion import (
    Confusion,
    build_confusion,
    build_mistake_sheet,
    mistakes_json,
)
from cnnlib.views.page.sections.learning_curves import learning_curves
from cnnlib.views.page.sections.metrics import Metric, headline_metrics
from cnnlib.views.page.sections.mistakes import Mistake
from cnnlib.views.page.sections.slices import Dimension, corruption_charts, group_slices
from cnnlib.views.page.sections.verdict import Verdict, build_verdict


@dataclass(frozen=True, kw_only=True)
class GalleryItem:
    """A mistake in the gallery; `image` is a data URI, None if its pixels could not be read."""

    mistake: Mistake
    image: str | None


@dataclass(frozen=True, kw_only=True)
class ReportView:
    """What the page of a report shows. The page leaves out what is None or empty.

    Attributes:
        mistakes: JSON values for the page's script, from `mistakes_json`.
        notes: sentences about what is missing.
        links: ids of the reports whose pages lie beside this one, and `index` for the history page.
    """

    record: ReportRecord
    model: str
    data: str
    overall: Row
    previous: ReportRecord | None
    previous_model: str
    comparison: Sequence[str]
    verdict: Verdict | None
    metrics: Sequence[Metric]
    classes: Sequence[ClassLine]
    classes_sentence: str
    confusion: Confusion
    gallery: Sequence[GalleryItem]
    sheet: Sheet | None
    mistakes: Mapping[str, Any]
    reliability: Reliability | None
    dimensions: Sequence[Dimension]
    corruptions: Sequence[LineChart]
    curves: Sequence[LineChart]
    activations: Activations | None
    notes: Sequence[str]
    links: Collection[str]


def build_report_view(data: ReportData, links: Collection[str] = ()) -> ReportView:
    """Lays out the page of a report.

    Args:
        links: ids of the reports whose pages lie beside this one, and `index` for the history page.
    """
    sheet = build_mistake_sheet(data.mistakes.by_pair, data.images.by_id)
    subject = data.record.subject
    previous = data.previous.record if data.previous else None
    previous_model = previous.subject.model_label if previous else ""
    return ReportView(
        record=data.record,
        model=subject.model_label,
        data=subject.data_label,
        overall=data.overall,
        previous=previous,
        previous_model=previous_model,
        comparison=describe_comparison(data.comparison, previous_model),
        verdict=build_verdict(data.gates),
        metrics=headline_metrics(data.overall),
        classes=class_lines(data.classes, data.comparison),
        classes_sentence=_describe_classes(data.classes),
        confusion=build_confusion(data.counts, data.mistakes.by_pair),
        gallery=[_gallery_item(data, mistake) for mistake in data.mistakes.most_confident],
        sheet=sheet,
        mistakes=mistakes_json(data.mistakes.by_pair, data.counts, subject.class_names, sheet),
        reliability=build_reliability(data.calibration),
        dimensions=group_slices(data.slices),
        corruptions=corruption_charts(data.overall, data.slices),
        curves=learning_curves(data.history, subject.checkpoint_epoch),
        activations=build_activations(data.activations),
        notes=data.notes,
        links=links,
    )


def _describe_classes(classes: Sequence[Row]) -> str:
    ranked = sorted((row for row in classes if row["accuracy"] is not None), key=lambda row: row["accuracy"])
    if len(ranked) < 2:
        return ""
    lowest, highest = ranked[0], ranked[-1]
    return (
        f"{lowest['class_name']} has the lowest accuracy, {format_percent(lowest['accuracy'])}; "
        f"{highest['class_name']} has the highest, {format_percent(highest['accuracy'])}."
    )


def _gallery_item(data: ReportData, mistake: Mistake) -> GalleryItem:
    pixels = data.images.by_id.get(mistake.id)
    return GalleryItem(mistake=mistake, image=None if pixels is None else png_uri(pixels))
