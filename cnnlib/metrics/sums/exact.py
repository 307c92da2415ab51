"""Sums of fractions that do not depend on the order or the grouping of what is added: whole numbers of 2^-32.

A float sum depends on the order of its terms in its last bits, and rows come from workers in any order. So every
value is rounded to a whole number of units of 2^-32 once, by itself, and units are added as integers: exactly. A
mean is off by at most half a unit, 1.2e-10. Within a block of rows float64 adds them, which is exact below 2^53;
between blocks Python's integers do, which have no largest one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNITS = float(2**32)
# 4096 rows of the square of the greatest loss, (-log 1e-7)^2 = 260, are 2^52.02 units.
MAX_BLOCK_ROWS = 4096


def in_units(values: ArrayLike) -> NDArray[np.float64]:
    """Each value as the nearest whole number of units."""
    return np.rint(np.asarray(values, np.float64) * UNITS)


@dataclass(frozen=True, eq=False)
class ExactSums:
    """Some sums of fractions.

    Attributes:
        units: Python integers in an array of any shape, in units of 2^-32.
    """

    units: NDArray[np.object_]

    @classmethod
    def from_units(cls, units: ArrayLike) -> ExactSums:
        """Sums that were added up in float64 without rounding."""
        return cls(np.asarray(units).astype(np.int64).astype(object))

    @classmethod
    def zero(cls, *shape: int) -> ExactSums:
        """The sums of nothing."""
        return cls(np.zeros(shape, np.int64).astype(object))

    def __add__(self, other: ExactSums) -> ExactSums:
        return ExactSums(self.units + other.units)

    def to_float(self) -> NDArray[np.float64]:
        """The sums, each rounded once."""
        return self.units.astype(np.float64) / UNITS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExactSums) and np.array_equal(self.units, other.units)

    def __hash__(self) -> int:
        return hash(tuple(self.units.ravel()))
