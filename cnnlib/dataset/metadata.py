"""Checks the names and types of metadata columns: the columns of a row besides id, image and label.

A report can be sliced by every column, so a column's name must not be ambiguous in a slice's name (slices/slicer.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from cnnlib.dataset.record import ID, IMAGE, LABEL, SHARD_ERROR, SHARD_INDEX
from cnnlib.errors import DatasetError

NEAR_DUPLICATE, CORRUPTION = "near-duplicate", "corruption"
IMAGE_PROPERTIES = ("brightness", "contrast", "sharpness", "size")
"""The image properties that a report can be sliced by (slices/properties.py); no metadata column has such a name."""

TYPES = {"bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
"""The Arrow types of metadata columns by their names in a manifest. Every value may be null."""

_RESERVED_NAMES = frozenset(
    {ID, IMAGE, LABEL, SHARD_INDEX, SHARD_ERROR, NEAR_DUPLICATE, CORRUPTION, *IMAGE_PROPERTIES}
)
_RESERVED_MARKS = "+="  # a slice's name is, for example, source=web+size=q1


def describe_columns(columns: Mapping[str, pa.Array], rows: int) -> dict[str, str]:
    """Checks the metadata columns of one split and returns their types by name, as a manifest states them.

    Args:
        columns: the columns' values by name.
        rows: number of rows of the split.

    Raises:
        DatasetError: a column's name is reserved, its type is not in TYPES, or it does not have one value per row.
    """
    type_names = {kind: name for name, kind in TYPES.items()}
    for name, values in columns.items():
        check_name(name)
        if values.type not in type_names:
            raise DatasetError(
                f"The metadata column {name!r} has the type {values.type}. Expected {', '.join(TYPES)}."
            )
        if len(values) != rows:
            raise DatasetError(
                f"The metadata column {name!r} needs a value for every row. Received {len(values)}, expected {rows}."
            )
    return {name: type_names[values.type] for name, values in columns.items()}


def check_types(types: Mapping[str, str]) -> dict[str, str]:
    """Checks the types that a manifest states and returns them.

    Raises:
        ValueError: this version does not know a type.
    """
    unknown = {name: kind for name, kind in types.items() if kind not in TYPES}
    if unknown:
        raise ValueError(f"unknown types of metadata columns: {unknown}, expected {', '.join(TYPES)}")
    return dict(types)


def check_name(name: str) -> None:
    """Checks the name of a metadata column.

    Raises:
        DatasetError: it has another meaning here, or would be ambiguous in the name of a slice.
    """
    if not name.strip() or name in _RESERVED_NAMES or any(mark in name for mark in _RESERVED_MARKS):
        raise DatasetError(
            f"A metadata column cannot be called {name!r}. Expected a name that is not empty, has no "
            f"{' or '.join(_RESERVED_MARKS)}, and is none of {', '.join(sorted(_RESERVED_NAMES))}."
        )
