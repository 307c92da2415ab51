"""Checks which classes have rows: there must be several to tell apart, and every split has some that are taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnlib.errors import DatasetError

_TAUGHT = "train"
_SHOWN = 3


def check_class_rows(
    rows_per_class: Mapping[str, Sequence[int]], class_names: Sequence[str], origin: str
) -> None:
    """Checks that rows, if there are any, are of several classes, and every split has some of the training split.

    Args:
        rows_per_class: the rows of each class, by split.
        class_names: the name of class i at index i.
        origin: where the rows came from, for the message.

    Raises:
        DatasetError: all rows, or all training rows, are of one class, or a split has rows, and none of a class that
            the training split has rows of.
    """
    present = {
        split: {name for name, rows in zip(class_names, counts, strict=True) if rows}
        for split, counts in rows_per_class.items()
    }
    everything = set[str]().union(*present.values())
    if len(everything) == 1:
        raise DatasetError(
            f"{origin} has images of one class only, {_show(everything, class_names)}. A classifier needs at "
            "least two."
        )
    taught = present.get(_TAUGHT, set())
    if len(taught) == 1:
        raise DatasetError(
            f"{origin}: the split {_TAUGHT!r} has rows of one class only, {_show(taught, class_names)}, and the others "
            f"have {_show(everything, class_names)}. A classifier is trained on at least two: add images of the others."
        )
    for split, classes in present.items():
        if taught and classes and not taught & classes:
            raise DatasetError(
                f"{origin}: no class of the split {split!r} has training rows, so a model could be right about none of "
                f"them. It has {_show(classes, class_names)}; {_TAUGHT!r} has {_show(taught, class_names)}. Name the "
                "classes alike in all splits, add images, or prepare the splits apart."
            )


def _show(classes: set[str], class_names: Sequence[str]) -> str:
    names = [name for name in class_names if name in classes]
    return ", ".join(names[:_SHOWN]) + (", …" if names[_SHOWN:] else "")
