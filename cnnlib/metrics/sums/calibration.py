"""Rows and hits in bins of probability: they show whether a probability of 0.8 is right in 8 of 10 rows.

Source: M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
Binning", AAAI 2015; C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnlib.metrics.sums.exact import ExactSums, in_units

NUM_BINS = 15
"""Bins of equal width in 0..1. A bin includes its upper end but not its lower end; the first one includes 0."""


def bin_of(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the index of the bin of each probability.

    Probabilities must hold float32 values: their product with the number of bins is exact in float64, so no rounding
    moves one across an edge.

    >>> bin_of(np.array([0.0, 0.1, 0.5, 1.0])).tolist()
    [0, 1, 7, 14]
    """
    return np.clip(np.ceil(probabilities * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationBins:
    """The number of rows and of hits, and the sum of probabilities, in each bin.

    The first num_classes entries are the probability of each class against the rest; the last one is the probability
    of the predicted class.

    Attributes:
        rows: int64 [num_classes + 1, bins].
        hits: int64 [num_classes + 1, bins], rows whose true class is that class.
        probability: sums of the rows' probabilities, [num_classes + 1, bins].
    """

    rows: NDArray[np.int64]
    hits: NDArray[np.int64]
    probability: ExactSums

    @classmethod
    def from_block(cls, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> CalibrationBins:
        """Counts at most 4096 rows.

        Args:
            labels: int64 [rows].
            probabilities: float64 [rows, num_classes] that hold float32 values.
        """
        rows, num_classes = probabilities.shape
        size = num_classes * NUM_BINS
        # At most 14 probabilities of a row exceed 1/15. So only those are binned, which is faster with many classes,
        # and the first bin gets the rest.
        where = np.nonzero(probabilities * NUM_BINS > 1)
        cells = where[1] * NUM_BINS + bin_of(probabilities[where])
        counts = np.bincount(cells, minlength=size).reshape(num_classes, NUM_BINS)
        sums = np.bincount(cells, in_units(probabilities[where]), size).reshape(num_classes, NUM_BINS)
        counts[:, 0] = rows - counts.sum(axis=1)
        sums[:, 0] = in_units(probabilities).sum(axis=0) - sums.sum(axis=1)
        true_cells = labels * NUM_BINS + bin_of(probabilities[np.arange(rows), labels])
        hits = np.bincount(true_cells, minlength=size).reshape(num_classes, NUM_BINS)
        predicted = probabilities.argmax(axis=1)
        top = probabilities[np.arange(rows), predicted]
        top_bins = bin_of(top)
        top_rows, top_hits = (
            np.bincount(bins, minlength=NUM_BINS) for bins in (top_bins, top_bins[predicted == labels])
        )
        top_sums = np.bincount(top_bins, in_units(top), NUM_BINS)
        return cls(
            rows=np.vstack([counts, top_rows]),
            hits=np.vstack([hits, top_hits]),
            probability=ExactSums.from_units(np.vstack([sums, top_sums])),
        )

    @classmethod
    def zero(cls, num_classes: int) -> CalibrationBins:
        """Returns the counts of no rows."""
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
