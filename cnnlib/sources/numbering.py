"""Checks that the labels of all splits count from the same number.

A data set whose training labels are 1..10 and whose test labels are 0..9 has eleven classes at first sight, and nothing
shows that every test label is off by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt

from cnnlib.errors import DatasetError


def check_numbering(labels: Mapping[str, npt.NDArray[np.integer] | Sequence[int]], origin: str) -> None:
    """Checks that no split has the numbers of another, each plus one.

    Args:
        labels: the labels of every split, as the source numbers them.
        origin: what holds them, for the message.

    Raises:
        DatasetError: the lowest and the highest label of a split are both one more than those of another.
    """
    ranges = {name: (int(np.min(own)), int(np.max(own))) for name, own in labels.items() if len(own)}
    for (name, (first, last)), (other, (other_first, other_last)) in permutations(ranges.items(), 2):
        if (first, last) == (other_first + 1, other_last + 1) and first < last:
            raise DatasetError(
                f"The labels of {origin} are {first}..{last} in {name} and {other_first}..{other_last} in {other}: "
                "they count from different numbers, so that one and the same class has two. Renumber the labels of one "
                "split. If they are right, give the names of all classes."
            )


def check_split_numbering(
    names: Sequence[str], labels: Sequence[int | None], splits: Sequence[object], origin: str
) -> None:
    """Does the same for classes that are called after the numbers of their labels; other classes are right.

    Args:
        names: of the classes.
        labels: the class of every row; None where it has none.
        splits: the split of every row.

    Raises:
        DatasetError: see `check_numbering`.
    """
    if not all(name.isdecimal() for name in names):
        return
    by_split: dict[str, list[int]] = {}
    for label, split in zip(labels, splits, strict=True):
        if label is not None and split is not None:
            by_split.setdefault(str(split), []).append(int(names[label]))
    check_numbering(by_split, origin)
