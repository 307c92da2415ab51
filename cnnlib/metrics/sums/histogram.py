"""Histograms of each class's probability, for its rows and for the others: they rank more rows than can be kept.

A bin is given by the leading bits of a float32: of p below one half, of 1 - p above it. So bins are narrower towards
0 and 1, where most probabilities lie, as if they were of equal width in the logit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SHIFT = 23 - 4  # 4 of 23 bits of the fraction: 16 bins from one power of 2 to the next
_BLOCK_VALUES = 2**22


def _leading_bits(values: NDArray[np.float32]) -> NDArray[np.int32]:
    return values.view(np.int32) >> _SHIFT


_HALF, _LOWEST, _LOWEST_COMPLEMENT = (
    int(_leading_bits(np.array([power], np.float32))[0]) for power in (0.5, 2.0**-32, 2.0**-25)
)
NUM_BINS = (_HALF - _LOWEST) + (_HALF - _LOWEST_COMPLEMENT) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbabilityHistogram:
    """The histograms of every class against the rest.

    Attributes:
        positives: int64 [num_classes, bins], rows of the class by its probability, in increasing order.
        negatives: int64 [num_classes, bins], rows of the other classes by the same probability.
    """

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @classmethod
    def from_rows(cls, labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> ProbabilityHistogram:
        """Counts rows: labels int64 [rows], probabilities float32 [rows, num_classes]."""
        num_classes = probabilities.shape[1]
        size, step = num_classes * NUM_BINS, max(1, _BLOCK_VALUES // num_classes)
        first_cells = np.arange(num_classes) * NUM_BINS
        all_rows, positives = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for first in range(0, len(probabilities), step):
            true = labels[first : first + step]
            cells = histogram_bin(probabilities[first : first + step]) + first_cells
            if (
                cells.size < size
            ):  # many classes: an array of all bins for each block would take most of the time
                np.add.at(all_rows, cells.ravel(), 1)
            else:
                all_rows += np.bincount(cells.ravel(), minlength=size)
            np.add.at(positives, cells[np.arange(len(true)), true], 1)
        shape = (num_classes, NUM_BINS)
        return cls(positives=positives.reshape(shape), negatives=(all_rows - positives).reshape(shape))

    @classmethod
    def zero(cls, num_classes: int) -> ProbabilityHistogram:
        """Returns the counts of no rows."""
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


def histogram_bin(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the bin of each probability. It increases with the probability, which the bounds of a ranking need."""
    probabilities = np.ascontiguousarray(probabilities)
    low = np.clip(_leading_bits(probabilities) - _LOWEST, 0, _HALF - _LOWEST - 1)
    complement = np.maximum(1 - probabilities, np.float32(0))
    high = (
        NUM_BINS - 1 - np.clip(_leading_bits(complement) - _LOWEST_COMPLEMENT, 0, _HALF - _LOWEST_COMPLEMENT)
    )
    return np.where(probabilities < 0.5, low, high).astype(np.int64)
