"""Sequences of small records that take about a hundred bytes each, where Python objects take a thousand.

A source lists all images before the first is read, and a data set may have millions of them.
"""

from __future__ import annotations

import pickle
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
_PROTOCOL = 2  # without frames, which are as long as a record
_MOST_SHARED = 10_000

Shared = int | tuple[Any]
"""The place of a value in the table of values that records share, or the value itself, as the only one of a tuple."""


class Compact(Sequence[T], Generic[T]):
    """A sequence that holds its records as bytes, and makes them anew when they are asked for.

    A subclass says what a record is: `_to_values` and `_from_values`. Records cannot be replaced or deleted.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._data = bytearray()
        self._ends: array[int] | npt.NDArray[np.int64] = array("q")
        self._starts: array[int] | npt.NDArray[np.int64] = array("q")
        self._table: list[Any] = []
        self._codes: dict[tuple[type, Any], int] = {}
        self.extend(items)

    @abstractmethod
    def _to_values(self, item: T) -> tuple[Any, ...]:
        """Returns a record as values that pickle knows."""

    @abstractmethod
    def _from_values(self, values: tuple[Any, ...]) -> T:
        """Returns the record that `_to_values` was called with."""

    def append(self, item: T) -> None:
        """Adds a record at the end. Not to be called on what `take` returned."""
        assert isinstance(self._starts, array)
        assert isinstance(self._ends, array)
        self._starts.append(len(self._data))
        self._data += pickle.dumps(self._to_values(item), _PROTOCOL)
        self._ends.append(len(self._data))

    def extend(self, items: Iterable[T]) -> None:
        """Adds records at the end."""
        for each in items:
            self.append(each)

    def take(self, order: npt.NDArray[np.int64]) -> Self:
        """Returns the records with these indices, in this order; the bytes are not copied."""
        taken = type(self)()
        taken._data, taken._table, taken._codes = self._data, self._table, self._codes
        taken._starts, taken._ends = np.asarray(self._starts)[order], np.asarray(self._ends)[order]
        return taken

    def share(self, value: Any) -> Shared:
        """Returns what stands for a value that many records have, such as the name of a split."""
        key = (type(value), value)
        code = self._codes.get(key)
        if code is not None:
            return code
        if len(self._table) >= _MOST_SHARED:  # not so many have it after all
            return (value,)
        self._codes[key] = len(self._table)
        self._table.append(value)
        return len(self._table) - 1

    def shared(self, value: Shared) -> Any:
        """Returns the value that `share` was called with; the same object for all records."""
        return value[0] if isinstance(value, tuple) else self._table[value]

    def _make(self, index: int) -> T:
        start, end = self._starts[index], self._ends[index]
        return self._from_values(pickle.loads(self._data[start:end]))

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._make(each) for each in range(*index.indices(len(self)))]
        return self._make(index)

    def __iter__(self) -> Iterator[T]:
        return map(self._make, range(len(self)))
