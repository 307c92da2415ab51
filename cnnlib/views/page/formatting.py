"""Numbers and times in, text of a page out. Percentages come from `reports.percent`."""

from __future__ import annotations

from datetime import datetime

from cnnlib.reports.percent import format_percent

MISSING = "–"
_PREFIXES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


def percent_range(low: float | None, high: float | None, digits: int = 1, unit: str = "%") -> str:
    """Returns the ends of an interval of a fraction in percent; empty without an interval.

    >>> percent_range(0.9754, 0.983)
    '97.5–98.3%'
    """
    if low is None or high is None:
        return ""
    return f"{format_percent(low, digits, unit='')}–{format_percent(high, digits, unit=unit)}"


def points(difference: float) -> str:
    """Returns a difference of two fractions in percentage points, with its sign.

    >>> points(-0.0214)
    '−2.1'
    """
    return format_percent(difference, unit="", signed=True).replace("-", "−")


def number(value: float | None, digits: int = 3) -> str:
    """Returns a metric that is no fraction.

    >>> number(0.4821), number(None)
    ('0.482', '–')
    """
    return MISSING if value is None else f"{value:.{digits}f}"


def number_range(low: float | None, high: float | None, digits: int = 3) -> str:
    """Returns the ends of an interval of such a metric; empty without an interval."""
    return "" if low is None or high is None else f"{low:.{digits}f}–{high:.{digits}f}"


def count(value: int | None) -> str:
    """Returns an integer with a comma between thousands.

    >>> count(10000)
    '10,000'
    """
    return MISSING if value is None else f"{value:,}"


def large_count(value: int | None) -> str:
    """Returns an integer, from a million on in three significant digits.

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


def plural(number_of: int, one: str, many: str | None = None) -> str:
    """Returns a count with its noun.

    >>> plural(1, "image"), plural(83, "image")
    ('1 image', '83 images')
    """
    return f"{number_of:,} {one if number_of == 1 else many or one + 's'}"
