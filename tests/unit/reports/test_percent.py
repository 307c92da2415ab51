"""One function writes every percentage, in each of the forms that gates, terminal and page need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.reports.percent import format_percent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_percent(0.98154), "98.2%"),
        (format_percent(None), "–"),
        (format_percent(0.914, unit="", if_none="-"), "91.4"),
        (format_percent(None, unit="", if_none="-"), "-"),
        (format_percent(0.9, 2), "90.00%"),
        (format_percent(0.05, 0), "5%"),
        (format_percent(0.087, 2, unit=" points"), "8.70 points"),
        (format_percent(-0.0214, unit="", signed=True), "-2.1"),
        (format_percent(0.0214, unit="", signed=True), "+2.1"),
    ],
)
def test_digits_unit_sign_and_the_text_for_none_are_the_callers(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(-1, 1), st.integers(0, 4))
def test_percent_rounds_as_pythons_own_format(fraction: float, digits: int) -> None:
    assert format_percent(fraction, digits) == f"{fraction:.{digits}%}"
