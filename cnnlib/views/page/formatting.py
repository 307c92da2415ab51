"""Numbers and times in, text of a page out. Percentages come from `reports.percent`."""

from __future__ import annotations

from datetime import datetime

from cnnlib.reports.percent import format_percent

MISSING = "–"
_PREFIXES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


def percent_range(low: float | None, high: float | None, unit: str = "%") -> str:
    """Returns the ends of an interval of a fraction in percent; empty without an interval.

    >>> percent_range(0.9754, 0.983)
    '97.5–98.3%'
    """
    if low is None or high is None:
        return ""
    return f"{format_percent(low, unit='')}–{format_percent(high, unit=unit)}"


def points(difference: float) -> str:
    """Returns a difference of two fractions in percentage points, with its sign.

    >>> points(-0.0214)
    '−2.1'
    """
    return format_percent(difference, unit="", signed=True).replace("-", "−")


def number(value: float | None) -> str:
    """Returns a metric that is not a fraction, with three digits after the point.

    >>> number(0.4821), number(None)
    ('0.482', '–')
    """
    return MISSING if value is None else f"{value:.3f}"


def number_range(low: float | None, high: float | None) -> str:
    """Returns the ends of an interval of a metric that is not a fraction; empty without an interval."""
    return "" if low is None or high is None else f"{low:.3f}–{high:.3f}"


def count(value: int | None) -> str:
    """Returns an integer with a comma between thousands.

    >>> count(10000)
    '10,000'
    """
    return MISSING if value is None else f"{value:,}"


def large_count(value: int | None) -> str:
    """Returns an integer; from a million on, with three significant digits and a word.

    >>> large_count(21_800_000), large_count(225_034)
    ('21.8 million', '225,034')
    """
    if value is None:
        return MISSING
    for size, name in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:,}"


def date_time(time: datetime) -> str:
    """Returns a UTC time to the minute.

    >>> from datetime import UTC
    >>> date_time(datetime(2026, 11, 2, 6, 5, tzinfo=UTC))
    '2 November 2026, 06:05 UTC'
    """
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def short_date(time: datetime) -> str:
    """Returns day and month, such as 2 Nov."""
    return f"{time.day} {time:%b}"


def plural(number_of: int, noun: str) -> str:
    """Returns a count with its noun.

    >>> plural(1, "image"), plural(83, "image")
    ('1 image', '83 images')
    """
    return f"{number_of:,} {noun if number_of == 1 else noun + 's'}"
