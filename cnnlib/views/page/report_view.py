"""What a report states in, what its page says and draws out, in the order of the page. No storage, no HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.percent import format_percent
from cnnlib.reports.read import ReportRecord
from cnnlib.views.page import formatting
from cnnlib.views.page.charts import LineChart, Sample, line_chart, percent, plain
from cnnlib.views.page.images import Sheet, png_uri
from cnnlib.views.page.report_data import ReportData, Row
from cnnlib.views.page.sections.activations import Learned, build_learned
from cnnlib.views.page.sections.comparison import ClassLine, class_lines, describe_comparison
from cnnlib.views.page.sections.confusion import (
    Confusion,
    build_confusion,
    build_mistake_sheet,
    mistakes_document,
)
from cnnlib.views.page.sections.metrics import Metric, headline_metrics
from cnnlib.views.page.sections.mistakes import Mistake
from cnnlib.views.page.sections.slices import Dimension, corruption_charts, group_slices
from cnnlib.views.page.sections.verdict import Verdict, build_verdict


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A mistake in the gallery; `image` is a data URI, or None where its pixels are not at hand."""

    mistake: Mistake
    image: str | None


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """The bins of the reliability diagram that have rows; the fullest bin has `most` of them."""

    bins: Sequence[Row]
    most: int
    sentence: str


@dataclass(frozen=True, kw_only=True)
class ReportView:
    """A report's page. What is None or empty is not on it."""

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
    gallery: Sequence[Shown]
    sheet: Sheet | None
    document: Mapping[str, Any]
    reliability: Reliability | None
    dimensions: Sequence[Dimension]
    corruptions: Sequence[LineChart]
    curves: Sequence[LineChart]
    learned: Learned | None
    notes: Sequence[str]
    links: Collection[str]


def build_report_view(data: ReportData, links: Collection[str] = ()) -> ReportView:
    """Lays out a report's page.

    Args:
        links: ids of the reports whose pages lie beside this one, and `index` for the history page.
    """
    sheet = build_mistake_sheet(data.mistakes.of_pairs, data.images.by_id)
    names = data.record.subject.class_names
    before = data.previous.record if data.previous else None
    return ReportView(
        record=data.record,
        model=data.record.subject.model_label,
        data=data.record.subject.data_label,
        overall=data.overall,
        previous=before,
        previous_model=before.subject.model_label if before else "",
        comparison=describe_comparison(data.comparison, before.subject.model_label) if before else (),
        verdict=build_verdict(data.gates),
        metrics=headline_metrics(data.overall),
        classes=class_lines(data.classes, data.comparison),
        classes_sentence=_describe_classes(data.classes),
        confusion=build_confusion(data.counts, data.mistakes.of_pairs),
        gallery=[_show(data, mistake) for mistake in data.mistakes.surest],
        sheet=sheet,
        document=mistakes_document(data.mistakes.of_pairs, data.counts, names, sheet),
        reliability=_reliability(data.calibration),
        dimensions=group_slices(data.slices),
        corruptions=corruption_charts(data.overall, data.slices),
        curves=_curves(data),
        learned=build_learned(data.activations),
        notes=data.notes,
        links=links,
    )


def _describe_classes(classes: Sequence[Row]) -> str:
    ranked = sorted((row for row in classes if row["accuracy"] is not None), key=lambda row: row["accuracy"])
    if len(ranked) < 2:
        return ""
    worst, best = ranked[0], ranked[-1]
    return (
        f"{worst['class_name']} is the weakest at {format_percent(worst['accuracy'])}, "
        f"{best['class_name']} the strongest at {format_percent(best['accuracy'])}."
    )


def _show(data: ReportData, mistake: Mistake) -> Shown:
    pixels = data.images.by_id.get(mistake.id)
    return Shown(mistake=mistake, image=None if pixels is None else png_uri(pixels))


def _reliability(rows: Sequence[Row]) -> Reliability | None:
    bins = [row for row in rows if row["rows"]]
    if not bins:
        return None
    total = sum(row["rows"] for row in bins)
    confidence = math.fsum(row["confidence"] * row["rows"] for row in bins) / total
    accuracy = sum(row["hits"] for row in bins) / total
    gap = confidence - accuracy
    manner = "overconfident" if gap > 0 else "underconfident"
    sentence = f"On average it is {format_percent(confidence)} sure and {format_percent(accuracy)} right" + (
        f": {manner} by {format_percent(abs(gap), unit=' points')}."
        if abs(gap) >= 0.0005
        else ", on balance neither too sure nor too modest."
    )
    return Reliability(bins=bins, most=max(row["rows"] for row in bins), sentence=sentence)


def _curves(data: ReportData) -> list[LineChart]:
    charts = (
        _curve(data, "Accuracy", "accuracy", format_percent),
        _curve(data, "Loss", "loss", formatting.number),
    )
    return [chart for chart in charts if chart is not None]


def _curve(data: ReportData, title: str, column: str, say: Callable[[float], str]) -> LineChart | None:
    def samples(name: str) -> list[Sample]:
        values = [(record.epoch, getattr(record, name)) for record in data.history]
        return [
            Sample(x=epoch, y=value, label=f"epoch {epoch}: {say(value)}")
            for epoch, value in values
            if value is not None and math.isfinite(value)  # a run that diverged has a loss of NaN
        ]

    training, validation = samples(column), samples(f"validation_{column}")
    if not training:
        return None
    spoken = f"{title} of training from {say(training[0].y)} to {say(training[-1].y)}"
    if validation:
        spoken += f", of validation from {say(validation[0].y)} to {say(validation[-1].y)}"
    return line_chart(
        title,
        [("training", training), ("validation", validation)],
        summary=f"{spoken}, over {formatting.plural(len(training), 'epoch')}.",
        width=440,
        height=230,
        x_title="epoch",
        y_format=percent if column == "accuracy" else plain,
        say=say,
        cursor=data.record.subject.checkpoint_epoch,
    )
