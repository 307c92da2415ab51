"""A batch is split into chunks that keep the threads of a CPU busy."""

from __future__ import annotations

import pytest

from cnnlib.models.runtime import count_chunks


@pytest.mark.parametrize(
    ("threads", "rows", "chunks"),
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
def test_chunks_are_equal_and_of_sixteen_rows_or_more(threads: int, rows: int, chunks: int) -> None:
    assert count_chunks(threads, rows) == chunks
    assert rows % chunks == 0
