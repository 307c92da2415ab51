"""Sums of real numbers that do not depend on the order or grouping of their terms: integers in units of 2^-32.

The last bits of a float sum depend on the order of its terms, and rows come from predictors in any order. So each value
is rounded to a whole number of units of 2^-32 by itself, and units are added exactly. The error of a mean is at most
half a unit, 1.2e-10. Within a block of rows float64 adds units, which is exact below 2^53; between blocks Python's
integers do, which are unbounded.

Neither `math.fsum` nor a longdouble does this: they round the sum of each part, and so the sum of two parts differs
from that of the whole. `Fraction` is exact, but one Python object per value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNITS = float(2**32)
# 4096 rows of the largest squared loss, (-log 1e-7)^2 = 260, are 2^52.02 units.
MAX_BLOCK_ROWS = 4096


def in_units(values: ArrayLike) -> NDArray[np.float64]:
    """Returns each value as the nearest whole number of units."""
    return np.rint(np.asarray(values, np.float64) * UNITS)


@dataclass(frozen=True, eq=False)
class ExactSums:
    """Sums of real numbers.

    Attributes:
        units: Python integers in an array of any shape, in units of 2^-32.
    """

    units: NDArray[np.object_]

    @classmethod
    def from_units(cls, units: ArrayLike) -> ExactSums:
        """Takes sums of units that were added in float64 without rounding."""
        return cls(np.asarray(units).astype(np.int64).astype(object))

    @classmethod
    def zero(cls, *shape: int) -> ExactSums:
        """Returns sums of no terms."""
        return cls(np.zeros(shape, np.int64).astype(object))

    def __add__(self, other: ExactSums) -> ExactSums:
        return ExactSums(self.units + other.units)

    def to_float(self) -> NDArray[np.float64]:
        """Returns the sums, each rounded once."""
        return self.units.astype(np.float64) / UNITS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExactSums) and np.array_equal(self.units, other.units)

    def __hash__(self) -> int:
        return hash(tuple(self.units.ravel()))
