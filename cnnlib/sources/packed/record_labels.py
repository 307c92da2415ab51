"""Labels of records in, class names and the class of every record out: of one kind, and from one field."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cnnlib.errors import DatasetError
from cnnlib.log import log_event
from cnnlib.sources.columns import find_labels
from cnnlib.sources.second_column import RIVAL_NAMES, check_rivals, find_names, find_second

if TYPE_CHECKING:
    from cnnlib.sources.packed.records import PackedOptions, Record

_SHOWN = 10
_KINDS = {str: "names", int: "numbers", float: "numbers", bool: "truth values"}


def find_record_labels(
    records: Collection[Record], options: PackedOptions, origin: str, class_names: Sequence[str]
) -> tuple[tuple[str, ...], list[int | None], bool]:
    """Returns the class names, the class of every record (None where it has none), and whether anything names them.

    Args:
        origin: what holds the records, for messages.
        class_names: the names that the files state for labels that are numbers; a person's come first.

    Raises:
        ConfigError: the class names do not fit.
        DatasetError: the labels are of several kinds or come from several fields, or other fields contradict them.
    """
    if all(record.label is None for record in records):
        raise _no_label(records, options.label_column, origin)
    if not options.class_names:
        _check_kind(records, origin)
    column = to_column([record.label for record in records])
    label_field = options.label_column or _check_field(records, origin)
    second: tuple[str, ...] = ()
    if not class_names:
        if options.label_column is None:
            _check_others(records, label_field, origin)
        second = () if options.class_names else _find_second_names(records, options, label_field, origin)
    first_label = None if second else options.first_label  # names in a column state their numbers
    if class_names and not options.class_names:
        first_label = 0
    names, labels = find_labels(column, options.class_names or class_names or second, origin, first_label)
    return names, labels, bool(options.class_names or class_names or second)


def to_column(values: Sequence[Any]) -> pa.ChunkedArray:
    """Returns values as a column: numbers if all are, else text."""
    try:
        return pa.chunked_array([pa.array(values)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.chunked_array(
            [pa.array([None if each is None else str(each) for each in values], pa.string())]
        )


def _no_label(records: Collection[Record], label_column: str | None, origin: str) -> DatasetError:
    field = label_column or next((record.label_field for record in records if record.label_field), "")
    others = sorted({name for record in records for name in record.metadata})
    shown = ", ".join(others[:_SHOWN]) + (", …" if others[_SHOWN:] else "")
    return DatasetError(
        f"{origin} has no label in any row. Expected one name or number for every image"
        f"{f' in {field}' if field else ''}. --label-column names what holds it; there are also {shown or 'no others'}."
    )


def _check_kind(records: Collection[Record], origin: str) -> None:
    """Checks that labels are all of one kind: as text, a number would be a class of its own."""
    first: dict[str, Record] = {}
    for record in records:
        if record.label is not None:
            first.setdefault(_KINDS[type(record.label)], record)
    if len(first) > 1:
        (one, a), (two, b) = sorted(first.items())[:2]
        raise DatasetError(
            f"{origin}: some labels are {one} and some are {two}: {a.label!r} of {a.key} and {b.label!r} of {b.key}. "
            "Expected one kind. With --class-names, which names every class, all labels are taken as texts."
        )


def _check_field(records: Collection[Record], origin: str) -> str:
    """Returns the field that holds the labels; checks that it is the same one for all records."""
    first: dict[str, Record] = {}
    for record in records:
        if record.label is not None:
            first.setdefault(record.label_field.strip().lower(), record)
    if len(first) > 1:
        a, b = list(first.values())[:2]
        raise DatasetError(
            f"{origin}: the label of {a.key} is its {a.label_field}, and that of {b.key} its {b.label_field}. Expected "
            "the label in the same place everywhere. Prepare them apart, or say which one counts with --label-column."
        )
    return next((record.label_field for record in first.values()), "")


def _check_others(records: Collection[Record], label_field: str, origin: str) -> None:
    rivals = sorted(
        {name for record in records for name in record.metadata if name.strip().lower() in RIVAL_NAMES}
    )
    others = {name: [record.metadata.get(name) for record in records] for name in rivals}
    check_rivals([record.label for record in records], others, label_field, origin)


def _find_second_names(
    records: Collection[Record], options: PackedOptions, label_field: str, origin: str
) -> tuple[str, ...]:
    """Returns the names that further values give to labels that are numbers; none if there are none."""
    second = find_second(sorted({name for record in records for name in record.metadata}), label_field)
    if second is None:
        return ()
    names = find_names(
        [record.label for record in records],
        [record.metadata.get(second) for record in records],
        second,
        origin,
        is_chosen=options.label_column is not None,
    )
    if names:
        log_event("labels", note=f"the class names are those of {second}")
    return names
