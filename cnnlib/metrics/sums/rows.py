"""The scored rows, kept if they are few enough: then their ranking is exact and needs no histogram."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib.metrics.sums.arrays import as_scored

EXACT_VALUES = 20_000_000
"""The most probabilities, rows times classes (80 MB), for which the rows are kept and AUC and average precision are
exact. Above it they come from histograms, with a bound on their error."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRows:
    """Rows with their labels and probabilities.

    Attributes:
        ids: int64 [rows], unique.
        labels: int64 [rows], true classes.
        probabilities: float32 [rows, num_classes].
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @classmethod
    def from_probabilities(cls, ids: ArrayLike, labels: ArrayLike, probabilities: ArrayLike) -> ScoredRows:
        """Takes rows as they were scored.

        Raises:
            ValueError: see `MetricSums.from_probabilities`.
        """
        checked_labels, checked_probabilities = as_scored(labels, probabilities)
        return cls(ids=np.asarray(ids, np.int64), labels=checked_labels, probabilities=checked_probabilities)

    @classmethod
    def merge_all(cls, parts: Iterable[ScoredRows]) -> ScoredRows:
        """Returns all rows in the order of their ids, independent of the order of the parts.

        Raises:
            ValueError: no part.
        """
        all_parts = list(parts)
        ids = np.concatenate([part.ids for part in all_parts])
        order = np.argsort(ids, kind="stable")
        return cls(
            ids=ids[order],
            labels=np.concatenate([part.labels for part in all_parts])[order],
            probabilities=np.concatenate([part.probabilities for part in all_parts])[order],
        )

    def __len__(self) -> int:
        return len(self.ids)


def keeps_rows(rows: int, num_classes: int) -> bool:
    """Returns whether a split is small enough to keep its rows."""
    return rows * num_classes <= EXACT_VALUES
