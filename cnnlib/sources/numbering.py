"""Finds which class a label is that is a number, and checks that the labels of all splits count from the same one.

A data set whose training labels are 1..10 and whose test labels are 0..9 has eleven classes at first sight, and nothing
shows that every test label is off by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt

from cnnlib.errors import ConfigError, DatasetError
from cnnlib.log import log_event

ADVICE = " If they are right, give the names of all classes with --class-names."
_SHOWN = 10


def count_from_0(
    labels: Mapping[str, npt.NDArray[np.int32]],
    class_names: Sequence[str],
    first_label: int | None,
    origin: str,
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int32]]]:
    """Returns the class names and the class of every row, counted from 0, of arrays whose labels are numbers.

    Args:
        labels: those of every split, at least 0.
        class_names: their names; empty: the classes are called after the numbers.
        first_label: the number of the first class; None: 0, or 1 if the labels plainly count from 1.
        origin: what holds them, for messages.

    Raises:
        ConfigError: class names and labels leave open which name the first label has.
        DatasetError: a label has no class, or the splits count from different numbers.
    """
    if not class_names and first_label is None:
        check_numbering(labels, origin)
    rows = np.concatenate(list(labels.values()))
    low, high = (int(rows.min()), int(rows.max())) if len(rows) else (0, 0)
    first = find_first_label(low, high, class_names, origin) if first_label is None else first_label
    names = tuple(class_names) or tuple(map(str, range(first, high + 1)))
    if low < first:
        raise DatasetError(
            f"The labels of {origin} are {low}..{high}. Expected none below --first-label={first}, the number of the "
            "first class."
        )
    if high >= first + len(names):
        shown = ", ".join(names[:_SHOWN]) + (", …" if names[_SHOWN:] else "")
        raise DatasetError(
            f"The labels of {origin} go up to {high}, but there are {len(names)} class names: {shown}. Give more of "
            f"them, or --first-label with the number of {names[0]!r}."
        )
    return names, {name: own - first for name, own in labels.items()}


def find_first_label(low: int, high: int, class_names: Sequence[str], origin: str) -> int:
    """Returns the number of the first class: 0, or 1 if the labels plainly count from 1, which a log line says.

    Args:
        low, high: the lowest and the highest label.
        class_names: the names of the classes; empty: they are called after the numbers.
        origin: what holds the labels, for messages.

    Raises:
        ConfigError: the labels begin with 1 and there are more names than labels, so both may be meant.
    """
    if low == 1 and high < len(class_names):
        raise ConfigError(
            f"The labels of {origin} are {low}..{high}, and there are {len(class_names)} class names. Give "
            f"--first-label=0 if 1 is {class_names[1]!r}, or --first-label=1 if it is {class_names[0]!r}."
        )
    if low == 1 and len(class_names) in (0, high):
        log_event("labels", note=f"the labels count from 1 to {high}: class 0 is label 1")
        return 1
    return 0


def check_numbering(
    labels: Mapping[str, npt.NDArray[np.integer] | Sequence[int]], origin: str, advice: str = ADVICE
) -> None:
    """Checks that no split has the numbers of another, each plus one.

    A split may lack the first or the last classes: the numbers of two splits that lie in the range of one are right.

    Args:
        labels: the labels of every split, as the source numbers them.
        origin: what holds them, for the message.
        advice: what a person can do whose labels are right.

    Raises:
        DatasetError: the lowest and the highest label of a split are both one more than those of another, or it counts
            from 1 and goes further than another, which counts from 0.

    >>> check_numbering({"train": range(10), "val": range(9), "test": range(1, 10)}, "data")
    """
    ranges = {name: (int(np.min(own)), int(np.max(own))) for name, own in labels.items() if len(own)}
    for (name, (first, last)), (other, (other_first, other_last)) in permutations(ranges.items(), 2):
        if first == last or other_first == other_last:
            continue  # one class says nothing about the others
        is_shifted = (first, last) == (other_first + 1, other_last + 1)
        counts_from_1 = (first, other_first) == (1, 0) and last > other_last
        in_one_split = any(low <= other_first and last <= high for low, high in ranges.values())
        if (is_shifted or counts_from_1) and not in_one_split:
            raise DatasetError(
                f"The labels of {origin} are {first}..{last} in {name} and {other_first}..{other_last} in {other}: "
                "they count from different numbers, so that one and the same class has two. Renumber the labels of one "
                f"split.{advice}"
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
