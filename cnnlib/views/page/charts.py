"""Numbers in, places on a line chart out: axes with round ticks, lines, intervals. Pure geometry; templates draw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cnnlib.reports.percent import format_percent

_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 10.0, 10.0, 26.0
_MIN_SPAN = 1e-9
_CAP = 5.0  # half the width of a whisker's ends

Format = Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis: its place in the chart's units, and its text."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Maps the values low..high to the places start..end."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[Tick, ...] = ()

    def place(self, value: float) -> float:
        """Returns the place of a value in the chart's units.

        >>> Axis(low=0, high=1, start=100, end=0).place(0.25)
        75.0
        """
        fraction = (value - self.low) / max(self.high - self.low, _MIN_SPAN)
        return round(self.start + fraction * (self.end - self.start), 2)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One value of a series; `low` and `high` are the ends of its interval, None without one.

    Attributes:
        label: text of the tooltip; empty: the series' name and the value.
        mark: words that say how the template draws the point, such as worse, pass or fail; empty: a plain dot.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A sample at its place on the chart, with the places of its interval's ends."""

    x: float
    y: float
    low: float | None
    high: float | None
    label: str
    mark: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series on the chart.

    Attributes:
        path: the line, as an SVG path.
        band: the intervals of two or more points, as a closed SVG path; else empty.
        whisker: the interval of the only point that has one, as an SVG path; else empty.
        last: the last value as text, for the legend.
    """

    name: str
    path: str
    band: str
    whisker: str
    points: tuple[Point, ...]
    last: str


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """A chart of one or more lines over one axis.

    Attributes:
        summary: what the chart shows, in a sentence for screen readers.
        cursor: place of a vertical line that marks one x; None without one.
    """

    title: str
    summary: str
    cursor: float | None
    width: float
    height: float
    x: Axis
    y: Axis
    x_title: str
    lines: tuple[Line, ...]


def percent_tick(fraction: float) -> str:
    """Returns a fraction in percent with as many digits as it needs.

    >>> percent_tick(0.875), percent_tick(0.9), percent_tick(0.9845)
    ('87.5%', '90%', '98.45%')
    """
    return format_percent(fraction, 6, unit="").rstrip("0").rstrip(".") + "%"


def number_tick(value: float) -> str:
    """Returns a number with as many digits as it needs, at most six."""
    return f"{value:.6g}"


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Returns round numbers in low..high, about `count` of them, in steps of 1, 2 or 5 times a power of ten.

    Source: P. Heckbert, "Nice Numbers for Graph Labels", Graphics Gems (1990), 61-63.

    >>> nice_ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = max(high - low, _MIN_SPAN) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.7)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def line_chart(
    title: str,
    series: Sequence[tuple[str, Sequence[Sample]]],
    *,
    summary: str,
    width: float = 360,
    height: float = 200,
    x_title: str = "",
    x_ticks: Sequence[tuple[float, str]] | None = None,
    y_range: tuple[float, float] | None = None,
    y_ticks: int = 4,
    y_tick_format: Format = percent_tick,
    value_format: Format | None = None,
    cursor: float | None = None,
) -> LineChart:
    """Lays out a line chart.

    Args:
        series: name and samples of each line, in the order of x; at least one sample in all.
        x_ticks: value and text of the ticks of the x axis; None: round numbers.
        y_range: the values at the bottom and the top; None: the range of samples and intervals, with a margin.
        y_ticks: about how many ticks the y axis has.
        y_tick_format: formats a tick of the y axis.
        value_format: formats a value in the legend and in tooltips; None: as a tick.
        cursor: the x of a vertical line; drawn if it is within the samples.
    """
    samples = [sample for _, line in series for sample in line]
    xs = [sample.x for sample in samples]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_low, y_high = y_range or _range_of(samples)
    x_marks = (
        x_ticks if x_ticks is not None else [(tick, number_tick(tick)) for tick in _whole(x_low, x_high)]
    )
    # A margin of 6, so that the first and the last point do not lie on the frame.
    x = Axis(low=x_low, high=x_high, start=_LEFT + 6, end=width - _RIGHT - 6)
    y = Axis(low=y_low, high=y_high, start=height - _BOTTOM, end=_TOP)
    return LineChart(
        title=title,
        summary=summary,
        cursor=None if cursor is None or not x_low <= cursor <= x_high else x.place(cursor),
        width=width,
        height=height,
        x=_with_ticks(x, x_marks),
        y=_with_ticks(y, [(tick, y_tick_format(tick)) for tick in nice_ticks(y_low, y_high, y_ticks)]),
        x_title=x_title,
        lines=tuple(_line(name, line, x, y, value_format or y_tick_format) for name, line in series if line),
    )


def _line(name: str, samples: Sequence[Sample], x: Axis, y: Axis, value_format: Format) -> Line:
    points = tuple(
        Point(
            x=x.place(sample.x),
            y=y.place(sample.y),
            low=None if sample.low is None else y.place(sample.low),
            high=None if sample.high is None else y.place(sample.high),
            label=sample.label or f"{name}: {value_format(sample.y)}",
            mark=sample.mark,
        )
        for sample in samples
    )
    path = "M" + "L".join(f"{point.x:g},{point.y:g}" for point in points)
    intervals = [
        (point.x, point.low, point.high)
        for point in points
        if point.low is not None and point.high is not None
    ]
    return Line(
        name=name,
        path=path,
        band=_band(intervals) if len(intervals) > 1 else "",
        whisker=_whisker(*intervals[0]) if len(intervals) == 1 else "",
        points=points,
        last=value_format(samples[-1].y),
    )


def _band(intervals: Sequence[tuple[float, float, float]]) -> str:
    upper = [f"{x:g},{high:g}" for x, _, high in intervals]
    lower = [f"{x:g},{low:g}" for x, low, _ in reversed(intervals)]
    return "M" + "L".join(upper + lower) + "Z"


def _whisker(x: float, low: float, high: float) -> str:
    # A band around one point would have no width and be invisible.
    caps = "".join(f"M{x - _CAP:g},{end:g}H{x + _CAP:g}" for end in (low, high))
    return f"M{x:g},{low:g}V{high:g}{caps}"


def _range_of(samples: Sequence[Sample]) -> tuple[float, float]:
    low = min(sample.y if sample.low is None else sample.low for sample in samples)
    high = max(sample.y if sample.high is None else sample.high for sample in samples)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _whole(low: float, high: float) -> list[float]:
    """Returns round integers: epochs and strengths have no halves."""
    return [tick for tick in nice_ticks(low, high, 5) if tick == round(tick)]


def _with_ticks(axis: Axis, ticks: Sequence[tuple[float, str]]) -> Axis:
    placed = tuple(Tick(at=axis.place(value), text=text) for value, text in ticks)
    return Axis(low=axis.low, high=axis.high, start=axis.start, end=axis.end, ticks=placed)
