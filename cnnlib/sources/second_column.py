"""Finds what the columns beside the labels say about them: the names of numbers, or other labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from cnnlib.dataset.class_names import compose
from cnnlib.errors import DatasetError
from cnnlib.log import log_event

NAME_NAMES = ("class_name", "label_name", "classname", "labelname", "image/class/text")
"""The usual names of a column that says in words what a column of labels says in numbers."""
RIVAL_NAMES = ("label", "class", "category", "target", "image/class/label")
"""The usual names of columns that may hold the labels. No y: beside labels it is mostly a coordinate."""
_SHOWN = 3


def find_second(columns: Iterable[str], label: str) -> str | None:
    """Returns the column that usually says in words what the labels say; None if there is none beside them."""
    return next((each for each in columns if each != label and each.strip().lower() in NAME_NAMES), None)


def find_names(
    labels: Sequence[Any], names: Sequence[Any], column: str, origin: str, *, is_chosen: bool
) -> tuple[str, ...]:
    """Returns the class names that a second column gives to labels that are numbers.

    Names that two numbers have, such as the bird and the machine `crane`, get the number: `crane (134)`.

    Args:
        labels, names: the values of the two columns, one for each row.
        column: what the second column is called.
        origin: what holds them, for messages.
        is_chosen: whether a person named the column of the labels; one that contradicts it is then left alone.

    Returns:
        The names by number, if the labels are 0, 1, 2, … or 1, 2, 3, … and each has one; none if not.

    Raises:
        DatasetError: a label has two names.
    """
    found: dict[Any, str] = {}
    known = set()
    for label, name in zip(map(to_label, labels), map(_to_name, names), strict=True):
        if label is None or (name is None and isinstance(label, int) and label < 0):
            continue  # programs write -1 for a missing label
        known.add(label)
        if name is not None and found.setdefault(label, name) != name:
            if is_chosen:
                log_event(
                    "labels", note=f"the names in {column} are not used, because {label} has two of them"
                )
                return ()
            raise DatasetError(
                f"Two columns of {origin} contradict each other: the label {label!r} has the names {found[label]!r} "
                f"and {name!r} in {column}. Correct them, or give --label-column to say which one counts, or "
                "--class-names."
            )
    if not found or all(label == name for label, name in found.items()):
        return ()
    are_numbers = all(isinstance(each, int) and not isinstance(each, bool) for each in known)
    reason = (
        _why_not(sorted(known), found) if are_numbers else "the labels are no numbers, but names themselves"
    )
    if reason:
        log_event("labels", note=f"the names in {column} are not used, because {reason}")
        return ()
    return _tell_apart(found)


def check_rivals(labels: Sequence[Any], others: Mapping[str, Sequence[Any]], label: str, origin: str) -> None:
    """Checks that other columns that may hold the labels put the same rows together, and logs which one is read.

    Args:
        labels: the values of the column that is read, one for each row.
        others: the values of further columns, by the name of the column; those with other names are left out.
        label: what the column that is read is called.
        origin: what holds them, for messages.

    Raises:
        DatasetError: two rows have one label by one column and different ones by the other.
    """
    own = [to_label(each) for each in labels]
    for name, values in others.items():
        if name == label or name.strip().lower() not in RIVAL_NAMES:
            continue
        theirs = [to_label(each) for each in values]
        if any(isinstance(each, float) for each in theirs) or len({*theirs} - {None}) < 2:
            continue  # measured, not counted, or the same everywhere: no labels
        pairs = {pair for pair in zip(own, theirs, strict=True) if None not in pair}
        for side, one, two in ((0, label, name), (1, name, label)):
            by_value: dict[Any, Any] = {}
            for pair in sorted(pairs, key=str):
                first = by_value.setdefault(pair[side], pair[1 - side])
                if first != pair[1 - side]:
                    raise DatasetError(
                        f"Two columns of {origin} may hold the labels, and they disagree: rows whose {one} is "
                        f"{pair[side]!r} have the {two} {first!r} or {pair[1 - side]!r}. Give --label-column {label} "
                        f"or --label-column {name}."
                    )
        if pairs:
            log_event("labels", note=f"the labels are those of {label}; {name} puts the same rows together")


def to_label(value: Any) -> Any:
    """Returns a label in its one spelling: a text, a whole number, a truth value; None where it is missing.

    A number that is not whole stays as it is: it is no label, and an error says so.

    >>> to_label(3.0), to_label(" cat "), to_label(""), to_label(float("nan")), to_label(2.5)
    (3, 'cat', None, None, 2.5)
    """
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() else value
    if value is None or isinstance(value, bool | int):
        return value
    return compose(str(value).strip()) or None


def _to_name(value: Any) -> str | None:
    label = to_label(value)
    return None if label is None else str(label)


def _why_not(numbers: Sequence[int], names: Mapping[int, str]) -> str:
    """Returns why names cannot be those of the classes, in words; an empty text if they can."""
    without = [str(each) for each in numbers if each not in names]
    if without:
        return f"these labels have none: {', '.join(without[:_SHOWN])}{', …' if without[_SHOWN:] else ''}"
    if numbers[0] not in (0, 1) or numbers[-1] - numbers[0] != len(numbers) - 1:
        return "the labels are neither 0, 1, 2, … nor 1, 2, 3, …"
    return ""


def _tell_apart(names: Mapping[int, str]) -> tuple[str, ...]:
    """Returns the names by number, with the number behind those that several have."""
    counts = Counter(names.values())
    told = {
        number: name if counts[name] == 1 else f"{name} ({number})" for number, name in sorted(names.items())
    }
    if several := [told[number] for number, name in sorted(names.items()) if counts[name] > 1]:
        log_event(
            "labels", note=f"several labels have one name, and are classes of their own: {', '.join(several)}"
        )
    return tuple(told.values())
