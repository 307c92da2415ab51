"""Rows of slices in; slices grouped by dimension, and charts of accuracy over corruption strength out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.percent import format_percent
from cnnlib.slices import slicer
from cnnlib.views.page import formatting
from cnnlib.views.page.charts import LineChart, Sample, line_chart

CORRUPTION = "corruption"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A slice: its value of the dimension, and its row of `overall`."""

    value: str
    row: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A property that slices the split, and its slices in the order of the report."""

    name: str
    slices: Sequence[Slice]


def split_name(name: str) -> tuple[str, str]:
    """Returns the dimension and the value that a slice's name states; for a crossed slice, two of each.

    >>> split_name("brightness=q1"), split_name("source=web+brightness=q2")
    (('brightness', 'q1'), ('source × brightness', 'web × q2'))
    >>> split_name('source="a+b=c"')
    ('source', '"a+b=c"')
    """
    parts = [part.partition("=") for part in slicer.split_name(name)]
    if not all(separator for _, separator, _ in parts):
        return name.partition("=")[0], name.partition("=")[2]  # the value itself contains a plus
    return " × ".join(part[0] for part in parts), " × ".join(part[2] for part in parts)


def group_slices(rows: Sequence[Mapping[str, Any]]) -> list[Dimension]:
    """Returns the slices that are not corruptions, by dimension, in the order of the rows."""
    groups: dict[str, list[Slice]] = defaultdict(list)
    for row in rows:
        dimension, value = split_name(row["slice"])
        if dimension != CORRUPTION:
            groups[dimension].append(Slice(value=value, row=row))
    return [Dimension(name=name, slices=slices) for name, slices in groups.items()]


def corruption_charts(overall: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[LineChart, ...]:
    """Draws a chart per corruption: accuracy over its strength, from 0 (the original images). All have one scale."""
    by_kind: dict[str, list[Sample]] = defaultdict(lambda: [_sample(0, overall)])
    for row in rows:
        dimension, value = split_name(row["slice"])
        kind, _, strength = value.rpartition("/")
        if dimension == CORRUPTION and strength.isdigit() and row["accuracy"] is not None:
            by_kind[kind].append(_sample(int(strength), row))
    samples = [sample for series in by_kind.values() for sample in series]
    if not samples:
        return ()
    lowest = min(sample.y if sample.low is None else sample.low for sample in samples)
    y_range = (max(0.0, lowest - 0.04), 1.0)
    return tuple(_chart(kind, series, y_range) for kind, series in by_kind.items())


def _chart(kind: str, series: list[Sample], y_range: tuple[float, float]) -> LineChart:
    ordered = sorted(series, key=lambda sample: sample.x)
    return line_chart(
        kind,
        [("accuracy", ordered)],
        summary=f"Accuracy under {kind}: {format_percent(ordered[0].y)} on the original images, "
        f"{format_percent(ordered[-1].y)} at strength {ordered[-1].x:g}.",
        width=280,
        height=170,
        x_ticks=[(strength, str(strength)) for strength in range(6)],
        y_range=y_range,
    )


def _sample(strength: int, row: Mapping[str, Any]) -> Sample:
    accuracy, low, high = row["accuracy"], row["accuracy_low"], row["accuracy_high"]
    label = f"strength {strength}: {format_percent(accuracy)} ({formatting.percent_range(low, high)})"
    return Sample(x=strength, y=accuracy, low=low, high=high, label=label)
