"""Numbers in, places on a chart out: axes with round ticks, lines, bands. Pure geometry; the templates draw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 10.0, 10.0, 26.0
_MIN_SPAN = 1e-9


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis: where it is, in the chart's units, and what it says."""

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
        """Where a value lies, in the chart's units.

        >>> Axis(low=0, high=1, start=100, end=0).place(0.25)
        75.0
        """
        fraction = (value - self.low) / max(self.high - self.low, _MIN_SPAN)
        return round(self.start + fraction * (self.end - self.start), 2)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One value of a series; `low` and `high` are the ends of its interval, None without one.

    Attributes:
        mark: how the point is drawn: "" as a dot, else as what the templates know (worse, pass, fail, …).
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A sample on the chart, with the ends of its interval; `label` is what it says when pointed at."""

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
        band: its intervals, as a closed SVG path; empty without any.
        last: the last value as text, for the legend.
    """

    name: str
    path: str
    band: str
    points: tuple[Point, ...]
    last: str


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """A chart of one or more lines over one axis.

    Attributes:
        summary: what it shows, in words, for those who do not see it.
        cursor: where a vertical line stands, which marks what the page is about; None without one.
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


Format = Callable[[float], str]


def percent(value: float) -> str:
    """A share as an axis says it.

    >>> percent(0.875), percent(0.9)
    ('87.5%', '90%')
    """
    return f"{100 * value:.10g}%" if abs(100 * value - round(100 * value)) < 1e-9 else f"{100 * value:.3g}%"


def plain(value: float) -> str:
    """A number as an axis says it."""
    return f"{value:.6g}"


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers in low..high, about `count` of them, in steps of 1, 2 or 5 times a power of ten.

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
    y_format: Format = percent,
    say: Format | None = None,
    cursor: float | None = None,
) -> LineChart:
    """Lays out a line chart.

    Args:
        series: name and samples of each line, in the order of x; at least one sample in all.
        x_ticks: value and text of the marks below; None: round numbers.
        y_range: the values that the height spans; None: all that is there, with a little room.
        y_ticks: about how many marks the axis has.
        y_format: how the axis says a value.
        say: how the legend and the points say one; None: as the axis.
        cursor: the x where a vertical line stands, if it is on the chart.
    """
    samples = [sample for _, line in series for sample in line]
    xs = [sample.x for sample in samples]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_low, y_high = y_range or _range_of(samples)
    marks = x_ticks if x_ticks is not None else [(tick, plain(tick)) for tick in _whole(x_low, x_high)]
    # Half a step of room, so that the first and last points do not lie on the frame.
    x = Axis(low=x_low, high=x_high, start=_LEFT + 6, end=width - _RIGHT - 6)
    y = Axis(low=y_low, high=y_high, start=height - _BOTTOM, end=_TOP)
    return LineChart(
        title=title,
        summary=summary,
        cursor=None if cursor is None or not x_low <= cursor <= x_high else x.place(cursor),
        width=width,
        height=height,
        x=_with_ticks(x, marks),
        y=_with_ticks(y, [(tick, y_format(tick)) for tick in nice_ticks(y_low, y_high, y_ticks)]),
        x_title=x_title,
        lines=tuple(_line(name, line, x, y, say or y_format) for name, line in series if line),
    )


def _line(name: str, samples: Sequence[Sample], x: Axis, y: Axis, say: Format) -> Line:
    points = tuple(
        Point(
            x=x.place(sample.x),
            y=y.place(sample.y),
            low=None if sample.low is None else y.place(sample.low),
            high=None if sample.high is None else y.place(sample.high),
            label=sample.label or f"{name}: {say(sample.y)}",
            mark=sample.mark,
        )
        for sample in samples
    )
    path = "M" + "L".join(f"{point.x:g},{point.y:g}" for point in points)
    return Line(name=name, path=path, band=_band(points), points=points, last=say(samples[-1].y))


def _band(points: Sequence[Point]) -> str:
    known = [point for point in points if point.low is not None and point.high is not None]
    if len(known) < 2:
        return ""
    upper = [f"{point.x:g},{point.high:g}" for point in known]
    lower = [f"{point.x:g},{point.low:g}" for point in reversed(known)]
    return "M" + "L".join(upper + lower) + "Z"


def _range_of(samples: Sequence[Sample]) -> tuple[float, float]:
    low = min(sample.y if sample.low is None else sample.low for sample in samples)
    high = max(sample.y if sample.high is None else sample.high for sample in samples)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def _whole(low: float, high: float) -> list[float]:
    """Round whole numbers: epochs and strengths have no halves."""
    return [tick for tick in nice_ticks(low, high, 5) if tick == round(tick)]


def _with_ticks(axis: Axis, ticks: Sequence[tuple[float, str]]) -> Axis:
    placed = tuple(Tick(at=axis.place(value), text=text) for value, text in ticks)
    return Axis(low=axis.low, high=axis.high, start=axis.start, end=axis.end, ticks=placed)
