"""What a report states in, what its page shows out, in the order of the page. No storage, no HTML."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.manifest import ReportRecord
from cnnlib.views.page.charts import LineChart
from cnnlib.views.page.images import MAX_SHEET_BYTES, PHOTO_QUALITY, Sheet, is_photo, picture_uri
from cnnlib.views.page.report_data import ReportData, Row
from cnnlib.views.page.sections.activations import Activations, build_activations
from cnnlib.views.page.sections.calibration import Reliability, build_reliability
from cnnlib.views.page.sections.classes import Classes, build_classes
from cnnlib.views.page.sections.comparison import class_lines, describe_comparison
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

MAX_PAGE_BYTES = 3_000_000
"""A page is smaller than this: its sheet of mistakes gets what the other parts leave."""
_OTHER_BYTES = 300_000  # style, script, charts, bars, the list of pairs and their mistakes
_LINE_BYTES, _SHORT_LINE_BYTES = 2000, 850  # of a class in the table, with intervals and without
_MIN_SHEET_BYTES = 2**16


@dataclass(frozen=True, kw_only=True)
class GalleryItem:
    """A mistake in the gallery; `image` is a data URI, None if its pixels could not be read."""

    mistake: Mistake
    image: str | None
    is_photo: bool


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
    classes: Classes
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
    classes = build_classes(class_lines(data.classes, data.comparison))
    activations = build_activations(data.activations)
    gallery = _build_gallery(data)
    sheet = build_mistake_sheet(
        data.mistakes.by_pair, data.images.by_id, _sheet_bytes(activations, gallery, classes)
    )
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
        classes=classes,
        confusion=build_confusion(data.counts, data.mistakes.by_pair),
        gallery=gallery,
        sheet=sheet,
        mistakes=mistakes_json(data.mistakes.by_pair, data.counts, subject.class_names, sheet),
        reliability=build_reliability(data.calibration),
        dimensions=group_slices(data.slices),
        corruptions=corruption_charts(data.overall, data.slices),
        curves=learning_curves(data.history, subject.checkpoint_epoch),
        activations=activations,
        notes=data.notes,
        links=links,
    )


def _sheet_bytes(activations: Activations | None, gallery: Sequence[GalleryItem], classes: Classes) -> int:
    """Returns the bytes that are left for the sheet of mistakes on a page of `MAX_PAGE_BYTES`."""
    pictures = 0 if activations is None else activations.num_bytes
    pictures += sum(len(item.image or "") for item in gallery)
    table = len(classes.lines) * (_LINE_BYTES if classes.has_intervals else _SHORT_LINE_BYTES)
    room = (MAX_PAGE_BYTES - _OTHER_BYTES - pictures - table) * 3 // 4  # base64 makes 4 bytes of 3
    return max(_MIN_SHEET_BYTES, min(MAX_SHEET_BYTES, room))


def _build_gallery(data: ReportData) -> list[GalleryItem]:
    """Returns the mistakes of the gallery; where rows have equal pictures, the first of them stands for all."""
    found: dict[object, GalleryItem] = {}
    for mistake in data.mistakes.most_confident:
        item = _gallery_item(data, mistake)
        found.setdefault(mistake.id if item.image is None else (mistake.pair, item.image), item)
    return list(found.values())


def _gallery_item(data: ReportData, mistake: Mistake) -> GalleryItem:
    pixels = data.images.by_id.get(mistake.id)
    if pixels is None:
        return GalleryItem(mistake=mistake, image=None, is_photo=False)
    photo = is_photo(pixels)
    return GalleryItem(
        mistake=mistake, image=picture_uri(pixels, PHOTO_QUALITY if photo else None), is_photo=photo
    )
