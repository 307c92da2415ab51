"""Splits whose labels count from different numbers are refused, and splits that lack classes are not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cnnlib.errors import DatasetError
from cnnlib.sources.numbering import check_numbering


@pytest.mark.parametrize(
    "labels",
    [
        {"train": range(10), "val": range(9), "test": range(1, 10)},
        {"train": range(1, 11), "test": range(1, 9)},
        {"train": range(10), "test": [3, 9]},
        {"train": range(5, 10), "test": range(10)},
        {"train": [1, 2, 3], "test": [0]},
        {"train": range(10), "test": []},
    ],
)
def test_splits_that_lack_classes_are_right(labels: Mapping[str, range]) -> None:
    check_numbering(labels, "data")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"train": range(10), "test": range(1, 11)}, r"are 1\.\.10 in test and 0\.\.9 in train"),
        ({"train": range(1, 11), "test": range(9)}, r"are 1\.\.10 in train and 0\.\.8 in test"),
        (
            {"train": range(1, 11), "val": range(1, 11), "test": [0, 1]},
            r"are 1\.\.10 in train and 0\.\.1 in test",
        ),
        ({"train": [5, 9], "test": [4, 8]}, r"are 5\.\.9 in train and 4\.\.8 in test"),
    ],
)
def test_splits_that_count_from_different_numbers_are_refused(
    labels: Mapping[str, range], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        check_numbering(labels, "data")
