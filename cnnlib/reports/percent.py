"""A fraction in, percent or percentage points as text out: the one way gates and views write them."""

from __future__ import annotations


def format_percent(
    fraction: float | None, digits: int = 1, *, unit: str = "%", signed: bool = False, if_none: str = "–"
) -> str:
    """Returns a fraction, or a difference of two fractions, as a number of hundredths.

    Args:
        fraction: 0..1; -1..1 for a difference; None if there is no such number.
        digits: after the decimal point.
        unit: what follows the number, such as "" in a column whose header says %, or " points" for a difference.
        signed: whether a positive number has a plus sign.
        if_none: the text for None.

    >>> format_percent(0.98154), format_percent(0.9, 2, unit=""), format_percent(None)
    ('98.2%', '90.00', '–')
    >>> format_percent(-0.0214, unit=" points", signed=True)
    '-2.1 points'
    """
    if fraction is None:
        return if_none
    return f"{100 * fraction:{'+' if signed else ''}.{digits}f}{unit}"
