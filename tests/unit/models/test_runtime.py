"""How a CPU's threads are shared out."""

from __future__ import annotations

import pytest

from cnnlib.models.runtime import count_parts


@pytest.mark.parametrize(
    ("threads", "rows", "parts"),
    [
        (1, 32, 1),
        (2, 32, 2),
        (2, 31, 1),
        (2, 16, 1),
        (4, 64, 4),
        (3, 64, 2),
        (16, 64, 4),
        (2, 500, 2),
        (4, 1, 1),
    ],
)
def test_parts_are_equal_and_of_sixteen_rows_or_more(threads: int, rows: int, parts: int) -> None:
    assert count_parts(threads, rows) == parts
    assert rows % parts == 0
