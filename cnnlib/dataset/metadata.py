"""What a shard may hold of a row beside id, image and label: named columns of four types.

They become slices of a report, so a name is one that a slice can have: see slices.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from cnnlib.dataset.record import ID, IMAGE, LABEL, SHARD_INDEX
from cnnlib.errors import DatasetError

NEAR_DUPLICATE, CORRUPTION = "near-duplicate", "corruption"
IMAGE_PROPERTIES = ("brightness", "contrast", "sharpness", "size")
"""The properties of images by which a report can be sliced: a metadata column has none of these names."""

TYPES = {"bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
"""The types of metadata columns, by the names that a manifest has for them. Every value may be null."""

_TAKEN = frozenset({ID, IMAGE, LABEL, SHARD_INDEX, NEAR_DUPLICATE, CORRUPTION, *IMAGE_PROPERTIES})
_MARKS = "+="  # a slice is called source=web+size=q1


def describe_columns(columns: Mapping[str, pa.Array], rows: int) -> dict[str, str]:
    """Name and type of metadata columns, as the manifest has them.

    Args:
        columns: the values of one split by the columns' names.
        rows: how many rows the split has.

    Raises:
        DatasetError: a name that no column may have, another type, or another number of values.
    """
    names = {kind: name for name, kind in TYPES.items()}
    for name, values in columns.items():
        _check_name(name)
        if values.type not in names:
            raise DatasetError(
                f"The metadata column {name!r} has the type {values.type}. Expected {', '.join(TYPES)}."
            )
        if len(values) != rows:
            raise DatasetError(
                f"The metadata column {name!r} needs a value for every row. Received {len(values)}, expected {rows}."
            )
    return {name: names[values.type] for name, values in columns.items()}


def check_types(types: Mapping[str, str]) -> dict[str, str]:
    """The metadata columns that a manifest states.

    Raises:
        ValueError: a type that this version does not know.
    """
    unknown = {name: kind for name, kind in types.items() if kind not in TYPES}
    if unknown:
        raise ValueError(f"unknown types of metadata columns: {unknown}, expected {', '.join(TYPES)}")
    return dict(types)


def _check_name(name: str) -> None:
    if not name.strip() or name in _TAKEN or any(mark in name for mark in _MARKS):
        raise DatasetError(
            f"A metadata column cannot be called {name!r}. Expected a name without {' or '.join(_MARKS)} that is none "
            f"of {', '.join(sorted(_TAKEN))}."
        )
