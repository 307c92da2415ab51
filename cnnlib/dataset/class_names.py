"""Checks the names of classes: reports, gates and gauges find a class by its name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from cnnlib.errors import DatasetError


def compose(name: str) -> str:
    """Returns a name with its letters composed as Unicode's form NFC does: macOS writes é as e and an accent."""
    return unicodedata.normalize("NFC", name)


def check_class_names(names: Sequence[str], origin: str) -> tuple[str, ...]:
    """Checks that every class has a name of its own, and returns the names.

    Names that look the same are the same: spaces around a name, and how Unicode composes its letters, do not count.

    Args:
        names: the name of class i at index i.
        origin: what gave the names, for the error message.

    Raises:
        DatasetError: a name is empty or no text in UTF-8, or two classes have one name.
    """
    labels: dict[str, int] = {}
    for label, name in enumerate(names):
        shown = compose(name).strip()
        if any("\ud800" <= letter <= "\udfff" for letter in shown):
            raise DatasetError(
                f"{origin}: the name of class {label} is no text in UTF-8. Received {name!r}. Rename the folder or the "
                "label."
            )
        if not shown:
            raise DatasetError(
                f"{origin}: class {label} has an empty name. Received {name!r}. Expected a name for every class."
            )
        if shown in labels:
            first = labels[shown]
            raise DatasetError(
                f"{origin}: two classes have one name. Received {names[first]!r} for class {first} and {name!r} for "
                f"class {label}. Expected a different name for every class. Prepare the dataset with other class names."
            )
        labels[shown] = label
    return tuple(names)
