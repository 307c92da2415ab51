"""How many rows of a class, and of the others, were given which probability: what a ranking needs of many rows.

The bins are cut by the leading bits of a float32: of p below one half, of 1 - p above it. So their width falls with
the distance to 0 and to 1, where probabilities crowd, as if they were cut by the logit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SHIFT = 23 - 4  # 4 of 23 bits of the fraction: 16 bins from one power of 2 to the next
_BLOCK_VALUES = 2**22


def _leading_bits(values: NDArray[np.float32]) -> NDArray[np.int32]:
    return values.view(np.int32) >> _SHIFT


_HALF, _LOWEST, _LOWEST_REST = (
    int(_leading_bits(np.array([power], np.float32))[0]) for power in (0.5, 2.0**-32, 2.0**-25)
)
NUM_BINS = (_HALF - _LOWEST) + (_HALF - _LOWEST_REST) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbabilityHistogram:
    """Every class against the rest.

    Attributes:
        positives: int64 [num_classes, bins], rows of the class, by its probability, from 0 to 1.
        negatives: int64 [num_classes, bins], rows of the other classes, likewise.
    """

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @classmethod
    def from_rows(cls, labels: NDArray[np.int64], shares: NDArray[np.float32]) -> ProbabilityHistogram:
        """Counts some rows: labels int64 [rows], shares float32 [rows, num_classes]."""
        num_classes = shares.shape[1]
        size, step = num_classes * NUM_BINS, max(1, _BLOCK_VALUES // num_classes)
        first_cells = np.arange(num_classes) * NUM_BINS
        everyone, positives = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for first in range(0, len(shares), step):
            true = labels[first : first + step]
            cells = histogram_bin(shares[first : first + step]) + first_cells
            everyone += np.bincount(cells.ravel(), minlength=size)
            positives += np.bincount(cells[np.arange(len(true)), true], minlength=size)
        shape = (num_classes, NUM_BINS)
        return cls(positives=positives.reshape(shape), negatives=(everyone - positives).reshape(shape))

    @classmethod
    def zero(cls, num_classes: int) -> ProbabilityHistogram:
        """The counts of no rows."""
        empty = np.zeros((num_classes, NUM_BINS), np.int64)
        return cls(positives=empty, negatives=empty)

    def __add__(self, other: ProbabilityHistogram) -> ProbabilityHistogram:
        return ProbabilityHistogram(
            positives=self.positives + other.positives, negatives=self.negatives + other.negatives
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ProbabilityHistogram)
            and np.array_equal(self.positives, other.positives)
            and np.array_equal(self.negatives, other.negatives)
        )

    def __hash__(self) -> int:
        return hash(self.positives.tobytes())


def histogram_bin(shares: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each probability: it never falls while the probability rises, which is all the bounds need."""
    shares = np.ascontiguousarray(shares)
    low = np.clip(_leading_bits(shares) - _LOWEST, 0, _HALF - _LOWEST - 1)
    rest = np.maximum(1 - shares, np.float32(0))
    high = NUM_BINS - 1 - np.clip(_leading_bits(rest) - _LOWEST_REST, 0, _HALF - _LOWEST_REST)
    return np.where(shares < 0.5, low, high).astype(np.int64)
