"""Numbers and times in, the text of a page out."""

from __future__ import annotations

from datetime import datetime

NOTHING = "–"
_PREFIXES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


def percent(fraction: float | None, digits: int = 1) -> str:
    """A share of 0..1 in percent.

    >>> percent(0.98154), percent(None)
    ('98.2%', '–')
    """
    return NOTHING if fraction is None else f"{100 * fraction:.{digits}f}%"


def percent_range(low: float | None, high: float | None, digits: int = 1, unit: str = "%") -> str:
    """The ends of an interval in percent.

    >>> percent_range(0.9754, 0.983)
    '97.5–98.3%'
    """
    if low is None or high is None:
        return ""
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}{unit}"


def number(value: float | None, digits: int = 3) -> str:
    """A figure that is no share.

    >>> number(0.4821), number(None)
    ('0.482', '–')
    """
    return NOTHING if value is None else f"{value:.{digits}f}"


def number_range(low: float | None, high: float | None, digits: int = 3) -> str:
    """The ends of such a figure's interval."""
    return "" if low is None or high is None else f"{low:.{digits}f}–{high:.{digits}f}"


def count(value: int | None) -> str:
    """A whole number, its thousands apart.

    >>> count(10000)
    '10,000'
    """
    return NOTHING if value is None else f"{value:,}"


def big(value: int | None) -> str:
    """A big number, as one says it.

    >>> big(21_800_000), big(225_034)
    ('21.8 million', '225,034')
    """
    if value is None:
        return NOTHING
    for size, name in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:,}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign.

    >>> points(-0.0214)
    '−2.1'
    """
    return f"{100 * difference:+.1f}".replace("-", "−")


def moment(time: datetime) -> str:
    """A time in UTC.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 11, 2, 6, 5, tzinfo=UTC))
    '2 November 2026, 06:05 UTC'
    """
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def day(time: datetime) -> str:
    """A day, short: 2 Nov."""
    return f"{time.day} {time:%b}"


def plural(number_of: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "image"), plural(83, "image")
    ('1 image', '83 images')
    """
    return f"{number_of:,} {one if number_of == 1 else many or one + 's'}"
