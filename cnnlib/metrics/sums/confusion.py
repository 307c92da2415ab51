"""The confusion matrix: int64 counts of the pairs that occur, which merge exactly. NumPy only, no I/O.

A matrix of 20,000 classes has 400 million cells, 3.2 GB, but a row fills at most one of them. So only the pairs of a
true and a predicted class that have rows are kept, sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib.metrics.sums.arrays import as_labels

_MAX_CELLS = (
    2**20
)  # up to so many cells they are counted in an array of all, 8 MB, which is faster than sorting


@dataclass(frozen=True, eq=False)
class ConfusionCounts:
    """The number of rows of each true class that are predicted as each class.

    Attributes:
        num_classes: number of classes, with or without rows.
        codes: int64 [pairs], true * num_classes + predicted of every pair that has rows; increasing, read-only.
        counts: int64 [pairs], the rows of each of these pairs, at least 1; read-only.
    """

    num_classes: int
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("codes", "counts"):
            values = np.array(getattr(self, name), np.int64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @classmethod
    def from_labels(cls, true: ArrayLike, predicted: ArrayLike, num_classes: int) -> ConfusionCounts:
        """Counts pairs of a true and a predicted label.

        Args:
            true: integers [rows] in 0..num_classes-1.
            predicted: integers [rows], of the same rows in the same order.
            num_classes: the number of classes, whether or not every class has a row.

        Raises:
            ValueError: a label out of range, or arrays of different length.

        >>> ConfusionCounts.from_labels([0, 0, 1, 1], [0, 0, 0, 1], num_classes=2).to_matrix().tolist()
        [[2, 0], [1, 1]]
        """
        rows, columns = as_labels("true", true, num_classes), as_labels("predicted", predicted, num_classes)
        if len(rows) != len(columns):
            raise ValueError(
                f"Every row needs both labels. Received {len(rows)} true, {len(columns)} predicted."
            )
        codes = rows * num_classes + columns
        if num_classes**2 <= _MAX_CELLS:
            cells = np.bincount(codes, minlength=num_classes**2)
            found = np.flatnonzero(cells)
            return cls(num_classes, found, cells[found])
        return cls(num_classes, *np.unique(codes, return_counts=True))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> ConfusionCounts:
        """Takes counts of all pairs: integers from 0, [num_classes, num_classes], rows true, columns predicted.

        Raises:
            ValueError: another shape, or other numbers.
        """
        cells = np.asarray(matrix)
        if cells.ndim != 2 or cells.shape[0] != cells.shape[1]:
            raise ValueError(f"Confusion counts must be square. Received shape {cells.shape}.")
        if not np.issubdtype(cells.dtype, np.integer) or (cells < 0).any():
            raise ValueError(f"Confusion counts must be whole numbers from 0. Received {cells.tolist()}.")
        codes = np.flatnonzero(cells)
        return cls(len(cells), codes, cells.ravel()[codes])

    @classmethod
    def zero(cls, num_classes: int) -> ConfusionCounts:
        """Returns the counts of no rows: merging them changes nothing."""
        return cls(num_classes, np.empty(0, np.int64), np.empty(0, np.int64))

    @property
    def true(self) -> NDArray[np.int64]:
        """The true class of each pair, int64 [pairs]."""
        return self.codes // self.num_classes

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted class of each pair, int64 [pairs]."""
        return self.codes % self.num_classes

    @property
    def rows(self) -> int:
        """Number of rows that were counted."""
        return int(self.counts.sum())

    @property
    def correct(self) -> int:
        """Number of rows whose predicted label is the true label."""
        return int(self.counts[self.true == self.predicted].sum())

    @property
    def correct_by_class(self) -> NDArray[np.int64]:
        """Rows of each class that are predicted right, int64 [num_classes]."""
        right = self.true == self.predicted
        return self._sum_by(self.true[right], self.counts[right])

    @property
    def rows_by_true(self) -> NDArray[np.int64]:
        """Rows of each true class, int64 [num_classes]."""
        return self._sum_by(self.true, self.counts)

    @property
    def rows_by_predicted(self) -> NDArray[np.int64]:
        """Rows that are predicted as each class, int64 [num_classes]."""
        return self._sum_by(self.predicted, self.counts)

    def count(self, true: int, predicted: int) -> int:
        """Returns the number of rows of one pair.

        >>> ConfusionCounts.from_matrix([[2, 0], [1, 1]]).count(1, 0)
        1
        """
        code = true * self.num_classes + predicted
        place = int(np.searchsorted(self.codes, code))
        return int(self.counts[place]) if place < len(self.codes) and self.codes[place] == code else 0

    def mistakes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Returns the pairs of different classes: true and predicted class and rows, each int64 [pairs]."""
        wrong = self.true != self.predicted
        return self.true[wrong], self.predicted[wrong], self.counts[wrong]

    def to_matrix(self) -> NDArray[np.int64]:
        """Returns the counts of all pairs, int64 [num_classes, num_classes]. For few classes only."""
        cells = np.zeros(self.num_classes**2, np.int64)
        cells[self.codes] = self.counts
        return cells.reshape(self.num_classes, self.num_classes)

    def merge(self, other: ConfusionCounts) -> ConfusionCounts:
        """Returns the counts of both sets of rows together; associative and commutative, exactly."""
        if self.num_classes != other.num_classes:
            raise ValueError(f"Cannot merge counts of {self.num_classes} and {other.num_classes} classes.")
        codes = np.union1d(self.codes, other.codes)
        counts = np.zeros(len(codes), np.int64)
        for part in (self, other):
            counts[np.searchsorted(codes, part.codes)] += part.counts
        return ConfusionCounts(self.num_classes, codes, counts)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ConfusionCounts)
            and self.num_classes == other.num_classes
            and np.array_equal(self.codes, other.codes)
            and np.array_equal(self.counts, other.counts)
        )

    def __hash__(self) -> int:
        return hash((self.num_classes, self.codes.tobytes(), self.counts.tobytes()))

    def _sum_by(self, classes: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        # Not np.bincount with weights: it adds in float64, which is not exact above 2^53.
        sums = np.zeros(self.num_classes, np.int64)
        np.add.at(sums, classes, counts)
        return sums
