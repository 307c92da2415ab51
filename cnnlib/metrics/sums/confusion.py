"""The confusion matrix: int64 counts that merge exactly. NumPy only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib.metrics.sums.arrays import as_labels


@dataclass(frozen=True, eq=False)
class ConfusionCounts:
    """The number of rows of each true class that are predicted as each class.

    Attributes:
        counts: int64 [num_classes, num_classes], rows true, columns predicted; read-only.
    """

    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        counts = np.array(self.counts)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
            raise ValueError(f"Confusion counts must be square. Received shape {counts.shape}.")
        if not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
            raise ValueError(f"Confusion counts must be whole numbers from 0. Received {counts.tolist()}.")
        counts = counts.astype(np.int64)
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    @classmethod
    def from_labels(cls, true: ArrayLike, predicted: ArrayLike, num_classes: int) -> ConfusionCounts:
        """Counts pairs of a true and a predicted label.

        Args:
            true: integers [rows] in 0..num_classes-1.
            predicted: integers [rows], of the same rows in the same order.
            num_classes: size of the result, whether or not every class has a row.

        Raises:
            ValueError: a label out of range, or arrays of different length.

        >>> ConfusionCounts.from_labels([0, 0, 1, 1], [0, 0, 0, 1], num_classes=2).counts.tolist()
        [[2, 0], [1, 1]]
        """
        rows, columns = as_labels("true", true, num_classes), as_labels("predicted", predicted, num_classes)
        if len(rows) != len(columns):
            raise ValueError(
                f"Every row needs both labels. Received {len(rows)} true, {len(columns)} predicted."
            )
        cells = np.bincount(rows * num_classes + columns, minlength=num_classes * num_classes)
        return cls(cells.reshape(num_classes, num_classes))

    @classmethod
    def zero(cls, num_classes: int) -> ConfusionCounts:
        """Returns the counts of no rows: merging them changes nothing."""
        return cls(np.zeros((num_classes, num_classes), np.int64))

    @property
    def num_classes(self) -> int:
        """Number of classes, with or without rows."""
        return len(self.counts)

    @property
    def rows(self) -> int:
        """Number of rows that were counted."""
        return int(self.counts.sum())

    @property
    def correct(self) -> int:
        """Number of rows whose predicted label is the true label."""
        return int(np.trace(self.counts))

    def merge(self, other: ConfusionCounts) -> ConfusionCounts:
        """Returns the counts of both sets of rows together; associative and commutative, exactly."""
        if self.num_classes != other.num_classes:
            raise ValueError(f"Cannot merge counts of {self.num_classes} and {other.num_classes} classes.")
        return ConfusionCounts(self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfusionCounts) and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash(self.counts.tobytes())
