"""Slices rows: finds, for every requested slice, which rows are in it.

A *dimension* is what rows are sliced by: a metadata column (`source`), an image property (`brightness`, `contrast`,
`sharpness`, `size`), or whether a training image looks the same (`near-duplicate`). A *group* is one dimension, or two
crossed (`source+brightness`). Every row is in exactly one slice of a group.

A slice's name: `source=web`, `age=3`, `indoors=true`, and `source=null` for rows without a value; `brightness=q1` for
the lowest quantile; `near-duplicate=yes`; crossed `source=web+brightness=q1`. A text that would be ambiguous in a name
(an empty one, null, or one that contains + = ") is quoted as in JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cnnlib.dataset.metadata import NEAR_DUPLICATE
from cnnlib.dataset.record import Rows
from cnnlib.errors import ConfigError, DatasetError, nearest
from cnnlib.slices.duplicates import NearDuplicates, hash_images
from cnnlib.slices.properties import PROPERTIES, measure

Mask = npt.NDArray[np.bool_]
Group = tuple[str, ...]
"""The name of one dimension, or of two that are crossed."""

_PART = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^+"])+')

MAX_SLICES = 256
"""A group may have at most this many slices."""


class _SliceCodes(NamedTuple):
    """Holds the slice of every row in one group: codes, int64 [rows], index the names."""

    codes: npt.NDArray[np.int64]
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class Slicer:
    """Assigns rows to slices. The slice of a row does not depend on which predictor slices it, or with which rows.

    Attributes:
        groups: the requested groups, in their order.
        edges: for every dimension that has quantiles, the greatest value of each quantile except the last, rising.
            The other metadata columns are sliced by value.
        train: the hashes of the training images; None if no group has near-duplicates.
    """

    groups: tuple[Group, ...]
    edges: Mapping[str, tuple[float, ...]]
    train: NearDuplicates | None = None

    def masks(self, rows: Rows) -> dict[str, Mask]:
        """Returns which rows are in each slice, bool [rows] by the slice's name; slices without rows are left out.

        Raises:
            DatasetError: a shard lacks a column that its manifest states.
            ConfigError: a group has too many slices.
        """
        dimensions = dict.fromkeys(name for group in self.groups for name in group)
        coded = {name: self._codes(name, rows) for name in dimensions}
        for name, own in coded.items():
            # Checked before two are crossed, because that multiplies their names. One of the names is for null.
            check_count((name,), len(own.names) - 1)
        masks: dict[str, Mask] = {}
        for group in self.groups:
            codes, names = _cross([coded[name] for name in group])
            present = np.unique(codes)
            check_count(group, len(present))
            masks |= {names[code]: codes == code for code in present.tolist()}
        return masks

    def _codes(self, name: str, rows: Rows) -> _SliceCodes:
        if name == NEAR_DUPLICATE:
            assert self.train is not None
            near = self.train.find(hash_images(rows.images))
            return _SliceCodes(near.astype(np.int64), [f"{name}=no", f"{name}=yes"])
        if name in PROPERTIES:
            return _by_quantile(name, measure(name, rows.images), self.edges[name])
        column = metadata_column(rows, name)
        if name in self.edges:
            return _by_quantile(name, numbers(column), self.edges[name])
        return _by_value(name, column)


def parse_slices(requested: Sequence[str], columns: Mapping[str, str]) -> tuple[Group, ...]:
    """Parses `--slice-by` into groups; a group that is requested twice is returned once.

    Args:
        requested: dimensions, or two joined by +.
        columns: name and type of the dataset's metadata columns.

    Raises:
        ConfigError: a name is not a dimension, or a group has more than two dimensions or the same one twice.

    >>> parse_slices(["size", "source+size"], {"source": "string"})
    (('size',), ('source', 'size'))
    """
    known = (*columns, *PROPERTIES, NEAR_DUPLICATE)
    groups = []
    for item in requested:
        group = tuple(item.split("+"))
        for name in group:
            if name not in known:
                own = ", ".join(columns) if columns else "none"
                raise ConfigError(
                    f"slice_by has no dimension {name!r}. {nearest(name, known)} The dataset's own columns: {own}."
                )
        if len(group) > 2 or len(set(group)) < len(group):
            raise ConfigError(
                f"slice_by crosses two different dimensions at most. Received {item!r}, "
                "expected for example brightness+contrast."
            )
        groups.append(group)
    return tuple(dict.fromkeys(groups))


def split_name(name: str) -> list[str]:
    """Splits the name of a slice into those of its dimensions.

    >>> split_name('source="a+b"+brightness=q1')
    ['source="a+b"', 'brightness=q1']
    """
    return [part for part in _PART.findall(name) if part]


def value_names(name: str, values: Iterable[bool | float | str | None]) -> list[str]:
    """Returns the names of the slices of a dimension that is sliced by value, without repetition."""
    names = (f"{name}={_text(value)}" for value in values if value is not None and value == value)
    return list(dict.fromkeys([*names, f"{name}=null"]))


def quantile_names(name: str, num_edges: int) -> list[str]:
    """Returns the names of the slices of a dimension that is sliced by quantile."""
    return [*(f"{name}=q{number}" for number in range(1, num_edges + 2)), f"{name}=null"]


def check_count(group: Group, count: int) -> None:
    """Checks the number of slices of a group.

    Raises:
        ConfigError: there are more than MAX_SLICES.
    """
    if count > MAX_SLICES:
        received = f"{count} or more values" if len(group) == 1 else f"{count} pairs of values that may occur"
        raise ConfigError(
            f"slice_by {'+'.join(group)} makes too many slices. Received {received}, expected at most "
            f"{MAX_SLICES}. Slice by a coarser column, or cross fewer values."
        )


def metadata_column(rows: Rows, name: str) -> pa.Array:
    """Returns a metadata column of some rows.

    Raises:
        DatasetError: the rows have no such column.
    """
    if name not in rows.metadata:
        raise DatasetError(
            f"A shard lacks the column {name!r} that its manifest states. Received "
            f"{', '.join(rows.metadata) or 'none'}. Prepare the dataset again."
        )
    return rows.metadata[name]


def numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """Converts a column of numbers to float64 [rows], null to NaN."""
    # Whole numbers above 2**53, such as times in nanoseconds, are rounded: their order stays.
    values: npt.NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _by_quantile(name: str, values: npt.NDArray[np.floating], edges: tuple[float, ...]) -> _SliceCodes:
    codes = np.searchsorted(np.array(edges, np.float64), values.astype(np.float64), side="left")
    names = quantile_names(name, len(edges))
    return _SliceCodes(np.where(np.isnan(values), len(edges) + 1, codes), names)


def _by_value(name: str, column: pa.Array) -> _SliceCodes:
    if pa.types.is_floating(column.type):
        column = pc.if_else(
            pc.is_nan(column), None, column
        )  # NaN becomes null; `numbers` turns null into NaN
    encoded = column.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    return _SliceCodes(codes, [*(f"{name}={_text(value)}" for value in values), f"{name}=null"])


def _text(value: bool | float | str) -> str:
    if isinstance(value, str):
        plain = value not in ("", "null") and not set(value) & set('+="')
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def _cross(coded: Sequence[_SliceCodes]) -> _SliceCodes:
    first, *others = coded
    for other in others:
        first = _SliceCodes(
            first.codes * len(other.names) + other.codes,
            [f"{one}+{two}" for one in first.names for two in other.names],
        )
    return first
