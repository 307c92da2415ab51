"""Is a probability of 0.8 right in 8 of 10 rows? Rows and hits in bins of probability.

Source: M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
Binning", AAAI 2015; C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib.metrics.sums.exact import ExactSums, in_units

NUM_BINS = 15
"""The bins cut 0..1 into equal parts; a bin leaves its lower end out, but for 0, and includes its upper end."""


def bin_of(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each probability.

    The product is exact for what was float32, so nothing is rounded across an edge.

    >>> bin_of(np.array([0.0, 0.1, 0.5, 1.0])).tolist()
    [0, 1, 7, 14]
    """
    return np.clip(np.ceil(probabilities * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationBins:
    """How many rows had which probability, and how many of those were hits.

    The first num_classes lines are each class's probability against the rest; the last one is the predicted
    class's probability, whichever class that is.

    Attributes:
        rows: int64 [num_classes + 1, bins].
        hits: int64 [num_classes + 1, bins], rows that truly are of the class.
        probability: sums of the rows' probabilities, [num_classes + 1, bins].
    """

    rows: NDArray[np.int64]
    hits: NDArray[np.int64]
    probability: ExactSums

    @classmethod
    def from_block(cls, labels: NDArray[np.int64], shares: NDArray[np.float64]) -> CalibrationBins:
        """Counts at most 4096 rows.

        Args:
            labels: int64 [rows].
            shares: float64 [rows, num_classes] that hold float32 values.
        """
        rows, num_classes = shares.shape
        size = num_classes * NUM_BINS
        # Most probabilities lie in the first bin, at least all but 14 of a row: it is what the others leave over.
        where = np.nonzero(shares * NUM_BINS > 1)
        cells = where[1] * NUM_BINS + bin_of(shares[where])
        counts = np.bincount(cells, minlength=size).reshape(num_classes, NUM_BINS)
        sums = np.bincount(cells, in_units(shares[where]), size).reshape(num_classes, NUM_BINS)
        counts[:, 0] = rows - counts.sum(axis=1)
        sums[:, 0] = in_units(shares).sum(axis=0) - sums.sum(axis=1)
        of_true = labels * NUM_BINS + bin_of(shares[np.arange(rows), labels])
        hits = np.bincount(of_true, minlength=size).reshape(num_classes, NUM_BINS)
        top = _bin_top(labels, shares)
        return cls(
            rows=np.vstack([counts, top[0].astype(np.int64)]),
            hits=np.vstack([hits, top[1].astype(np.int64)]),
            probability=ExactSums.from_units(np.vstack([sums, top[2]])),
        )

    @classmethod
    def zero(cls, num_classes: int) -> CalibrationBins:
        """The counts of no rows."""
        empty = np.zeros((num_classes + 1, NUM_BINS), np.int64)
        return cls(rows=empty, hits=empty, probability=ExactSums.zero(num_classes + 1, NUM_BINS))

    def __add__(self, other: CalibrationBins) -> CalibrationBins:
        return CalibrationBins(
            rows=self.rows + other.rows,
            hits=self.hits + other.hits,
            probability=self.probability + other.probability,
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CalibrationBins)
            and np.array_equal(self.rows, other.rows)
            and np.array_equal(self.hits, other.hits)
            and self.probability == other.probability
        )

    def __hash__(self) -> int:
        return hash((self.rows.tobytes(), self.hits.tobytes()))


def _bin_top(
    labels: NDArray[np.int64], shares: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows, hits and units of probability of the predicted class in every bin."""
    predicted = shares.argmax(axis=1)
    top = shares[np.arange(len(shares)), predicted]
    bins = bin_of(top)
    weights = (np.ones(len(top)), (predicted == labels).astype(float), in_units(top))
    rows, hits, units = (np.bincount(bins, weight, NUM_BINS) for weight in weights)
    return rows, hits, units
