"""Finds what the columns of a table mean: labels, splits, and metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from cnnlib.dataset.class_names import compose
from cnnlib.dataset.metadata import check_name
from cnnlib.dataset.streamed import Value
from cnnlib.errors import ConfigError, DatasetError
from cnnlib.log import log_event
from cnnlib.sources.image_files import check_names
from cnnlib.sources.numbering import find_first_label
from cnnlib.sources.second_column import to_label

LABEL_NAMES = ("label", "class", "class_name", "category", "target", "y")
"""The usual names of a column with labels, in lower case, the first that exists counts."""
SPLIT_NAMES = ("split", "subset", "fold")
_PIECE_ROWS = 10_000
_LIKE_MISSING = frozenset(("none", "null", "nan", "n/a", "na", "<na>"))
"""What programs write for a missing label; people may call a class so, too (NA: Namibia)."""


def check_column_names(names: Sequence[str], origin: str) -> None:
    """Checks that every column has a name of its own.

    Raises:
        DatasetError: two have one name.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{origin} has two columns called {twice[0]!r}. Expected a name of its own for each."
        )


def find_column(table: pa.Table, given: str | None, usual: Sequence[str], flag: str) -> str:
    """Returns the column that was given, or the first with a usual name.

    Args:
        flag: what names the column, for the message.

    Raises:
        ConfigError: there is no such column.
    """
    names: list[str] = table.column_names
    if given is not None:
        if given not in names:
            raise ConfigError(f"The table has no column {given!r}. It has {', '.join(names)}.")
        return given
    found = [name for word in usual for name in names if name.strip().lower() == word]
    if not found:
        raise ConfigError(
            f"No column of the table is called {', '.join(usual)}. It has {', '.join(names)}. Give --{flag}."
        )
    return found[0]


def find_split(table: pa.Table, given: str | None) -> str | None:
    """Returns the column with the splits; None if there is none.

    Raises:
        ConfigError: there is no column of the given name.
    """
    if given is None and not any(name.strip().lower() in SPLIT_NAMES for name in table.column_names):
        return None
    return find_column(table, given, SPLIT_NAMES, "split-column")


def find_labels(
    column: pa.ChunkedArray, class_names: Sequence[str], origin: str, first_label: int | None
) -> tuple[tuple[str, ...], list[int | None]]:
    """Returns the class names, and the class of every row; None where it has none.

    Args:
        column: the labels, numbers or names.
        class_names: for numbers, the name of each; else the classes in the order of their indexes; empty: as found.
        origin: what holds them, for messages.
        first_label: for numbers, that of the first class name; None: 0, or 1 if they plainly count from 1.

    Raises:
        ConfigError: the class names do not fit.
        DatasetError: no row has a label, or labels are lists, records or fractions.
    """
    if pa.types.is_nested(column.type):
        raise DatasetError(
            f"The labels of {origin} are of the type {column.type}. Expected one name or number for every image."
        )
    # Equal labels are one object: the rows may be many.
    distinct: dict[tuple[type, Any], Any] = {}
    values = [
        distinct.setdefault((type(each), each), each) for each in map(to_label, _iter_in_pieces(column))
    ]
    if (odd := next((each for each in values if isinstance(each, float)), None)) is not None:
        raise DatasetError(
            f"The labels of {origin} are numbers, and {odd:g} is no whole one. Expected whole numbers or names; is "
            "another column the label?"
        )
    if all(isinstance(each, int) and not isinstance(each, bool) for each in values if each is not None):
        return _number_classes(values, class_names, origin, first_label)
    texts = [None if each is None else str(each) for each in values]
    found = sorted({each for each in texts if each is not None})
    if class_names:
        # A label outside the names is a bad row, but a name without rows is most likely a typing error.
        given = set(map(compose, class_names))
        check_names(class_names, [name for name in found if name in given] or found, origin)
        found = list(class_names)
    else:
        say_what_is_odd(found)
    index = {compose(name): label for label, name in enumerate(found)}
    return tuple(found), [None if each is None else index.get(each) for each in texts]


def _iter_in_pieces(column: pa.ChunkedArray) -> Iterator[Any]:
    for chunk in column.chunks:
        for first in range(0, len(chunk), _PIECE_ROWS):
            yield from chunk.slice(first, _PIECE_ROWS).to_pylist()


def say_what_is_odd(classes: Sequence[str]) -> None:
    """Logs classes whose names differ only in case, and those that look like a missing label."""
    by_name: dict[str, list[str]] = {}
    for name in classes:
        by_name.setdefault(name.casefold(), []).append(name)
    for names in by_name.values():
        if len(names) > 1:
            log_event("labels", note=f"classes of their own that differ only in case: {', '.join(names)}")
    numbers = [name for name in classes if name.isdecimal()]
    if 0 < len(numbers) < len(classes):
        log_event("labels", note=f"classes that are numbers among names: {', '.join(numbers[:5])}")
    if missing := [name for name in classes if name.casefold() in _LIKE_MISSING]:
        log_event("labels", note=f"classes like all others, not missing labels: {', '.join(missing)}")


def _number_classes(
    values: Sequence[int | None], class_names: Sequence[str], origin: str, first_label: int | None
) -> tuple[tuple[str, ...], list[int | None]]:
    known = sorted({each for each in values if each is not None})
    if not known:
        raise DatasetError(f"{origin} has no label in any row.")
    if not class_names:
        if known[0] < 0:
            log_event("labels", note=f"a class like all others, not a missing label: {known[0]}")
        index = {number: label for label, number in enumerate(known)}
        return tuple(map(str, known)), [None if each is None else index[each] for each in values]
    first = _find_first(known, class_names, origin) if first_label is None else first_label
    inside = range(first, first + len(class_names))
    return tuple(class_names), [
        each - first if each is not None and each in inside else None for each in values
    ]


def _find_first(known: Sequence[int], class_names: Sequence[str], origin: str) -> int:
    """Returns the number of the first class name, see `find_first_label`, and checks that every label has a name.

    Negative numbers mean that a row has no label.
    """
    low, high = min((each for each in known if each >= 0), default=0), known[-1]
    first = find_first_label(low, high, class_names, origin)
    if high >= first + len(class_names):
        raise ConfigError(
            f"The labels of {origin} are {low}..{high}, and there are {len(class_names)} class names. Give more of "
            f"them, or --first-label with the number of {class_names[0]!r}: rows whose label has no name are then left "
            "out."
        )
    return first


def find_metadata(table: pa.Table, taken: set[str | None]) -> dict[str, tuple[str, pa.ChunkedArray]]:
    """Returns the type and the values of the columns that are metadata, by name.

    Args:
        taken: the columns that mean something else.
    """
    found: dict[str, tuple[str, pa.ChunkedArray]] = {}
    left_out = []
    for name in table.column_names:
        if name in taken:
            continue
        try:
            check_name(name)
        except DatasetError:
            left_out.append(name or "(no name)")
            continue
        found[name] = _to_metadata(table[name])
    if left_out:
        log_event(
            "metadata", note=f"left out, because their names have a meaning here: {', '.join(left_out)}"
        )
    return found


def _to_metadata(column: pa.ChunkedArray) -> tuple[str, pa.ChunkedArray]:
    kind = column.type
    if pa.types.is_boolean(kind):
        return "bool", column
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "int64", column.cast(pa.int64())
    if pa.types.is_floating(kind):
        return "float64", column.cast(pa.float64())
    return "string", pa.chunked_array(
        [pa.array([_to_text(each) for each in column.to_pylist()], pa.string())]
    )


def _to_text(value: Any) -> Value:
    return None if value is None else str(value)
