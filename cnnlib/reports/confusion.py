"""Confusion counts in, the rows of the table `confusion` out, and back. No I/O."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.reports.schema import ALL_PAIRS_CLASSES

_Ints = NDArray[np.int64]


def list_pairs(confusion: ConfusionCounts) -> tuple[_Ints, _Ints, _Ints]:
    """Returns true class, predicted class and rows of the pairs in the table `confusion`, each int64 [pairs].

    All pairs of up to `ALL_PAIRS_CLASSES` classes, and those that have rows of more, in the order of the indexes.
    """
    if confusion.num_classes > ALL_PAIRS_CLASSES:
        return confusion.true, confusion.predicted, confusion.counts
    matrix = confusion.to_matrix()
    true, predicted = np.indices(matrix.shape)
    return true.ravel(), predicted.ravel(), matrix.ravel()


def to_confusion(table: pa.Table, num_classes: int) -> ConfusionCounts:
    """Reads the confusion counts from the rows of one report in the table `confusion`, in any order."""
    true, predicted, counts = (
        table[name].to_numpy().astype(np.int64) for name in ("true", "predicted", "count")
    )
    codes = true * num_classes + predicted
    order = np.argsort(codes, kind="stable")
    order = order[counts[order] > 0]
    return ConfusionCounts(num_classes, codes[order], counts[order])


def most_confused(confusion: ConfusionCounts) -> tuple[_Ints, _Ints]:
    """Returns the class that each class is most often mistaken for, and how often, each int64 [num_classes].

    The lowest index among equals; 0 and 0 for a class without a mistake.

    >>> most_confused(ConfusionCounts.from_matrix([[5, 2, 2], [0, 1, 0], [1, 4, 0]]))
    (array([1, 0, 1]), array([2, 0, 4]))
    """
    true, predicted, counts = confusion.mistakes()
    order = np.lexsort((predicted, -counts, true))
    classes, first = np.unique(true[order], return_index=True)
    confused, most = (np.zeros(confusion.num_classes, np.int64) for _ in range(2))
    confused[classes], most[classes] = predicted[order][first], counts[order][first]
    return confused, most
