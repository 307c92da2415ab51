"""What one pass over the data yields: confusion counts and score sums. NumPy only, no I/O.

The labels and probabilities of one batch go in; sums come out. They merge in any grouping and any order, so
it does not matter how many workers scored which batch. Nothing here is a mean: `per_class` divides, once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Keras's cross-entropy puts this floor under a probability: a loss here and one of `model.evaluate` agree.
_SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True, eq=False)
class ConfusionCounts:
    """How often each true class was given each predicted class.

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
        """Counts the pairs of a true and a predicted label.

        Args:
            true: integers [rows] in 0..num_classes-1.
            predicted: integers [rows], of the same rows in the same order.
            num_classes: size of the result, also where some class has no row.

        Raises:
            ValueError: a label out of range, or two arrays that do not fit together.

        >>> ConfusionCounts.from_labels([0, 0, 1, 1], [0, 0, 0, 1], num_classes=2).counts.tolist()
        [[2, 0], [1, 1]]
        """
        rows, columns = _as_labels("true", true, num_classes), _as_labels("predicted", predicted, num_classes)
        if len(rows) != len(columns):
            raise ValueError(
                f"Every row needs both labels. Received {len(rows)} true, {len(columns)} predicted."
            )
        cells = np.bincount(rows * num_classes + columns, minlength=num_classes * num_classes)
        return cls(cells.reshape(num_classes, num_classes))

    @classmethod
    def zero(cls, num_classes: int) -> ConfusionCounts:
        """The counts of no rows, which merge without effect."""
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
        """Number of rows whose predicted label is the true one."""
        return int(np.trace(self.counts))

    def merge(self, other: ConfusionCounts) -> ConfusionCounts:
        """The counts of both sets of rows together; associative and commutative, exactly."""
        if self.num_classes != other.num_classes:
            raise ValueError(f"Cannot merge counts of {self.num_classes} and {other.num_classes} classes.")
        return ConfusionCounts(self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfusionCounts) and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash(self.counts.tobytes())


@dataclass(frozen=True, kw_only=True)
class ScoreSums:
    """Everything a pass over the data adds up: confusion, loss and top-k hits.

    Attributes:
        confusion: the counts of true against predicted labels.
        loss_sum: sum over the rows of -log p(true class), in nats. A sum, because parts differ in size.
        top_k: k, at least 1; only sums of the same k merge.
        top_k_correct: rows whose true class is among the k most probable.
    """

    confusion: ConfusionCounts
    loss_sum: float
    top_k: int
    top_k_correct: int

    @classmethod
    def from_probabilities(cls, labels: ArrayLike, probabilities: ArrayLike, *, top_k: int) -> ScoreSums:
        """Scores one batch.

        The predicted class is the most probable one; among equals the lowest index wins, there and in the
        top k, so that top 1 is the accuracy. A probability below 1e-7 counts as 1e-7, as in Keras.

        Args:
            labels: integers [rows] in 0..num_classes-1, the true classes.
            probabilities: floats [rows, num_classes] in 0..1.
            top_k: how many of the most probable classes may hold the true one; at least 1.

        Raises:
            ValueError: a label out of range, shapes that do not fit, or a probability outside 0..1 or NaN.

        >>> ScoreSums.from_probabilities([1], [[0.5, 0.25, 0.25]], top_k=2).top_k_correct
        1
        """
        shares = _as_probabilities(probabilities)
        rows, num_classes = shares.shape
        true = _as_labels("labels", labels, num_classes)
        if len(true) != rows:
            raise ValueError(f"Every row needs a label. Received {rows} predictions, {len(true)} labels.")
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1. Received {top_k}.")
        of_true = shares[np.arange(rows), true]
        return cls(
            confusion=ConfusionCounts.from_labels(true, shares.argmax(axis=1), num_classes),
            loss_sum=float(-np.log(np.maximum(of_true, _SMALLEST_PROBABILITY)).sum()),
            top_k=top_k,
            top_k_correct=int((_ranks(shares, true, of_true) < top_k).sum()),
        )

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]]) -> ScoreSums:
        """Merges the rows of columns that `to_columns` made, as Ray Data returns them.

        Raises:
            ValueError: no row, or rows of different k or numbers of classes.
        """
        counts = np.asarray(columns["confusion"])
        sums = zip(columns["loss_sum"], columns["top_k"], columns["top_k_correct"], strict=True)
        return cls.merge_all(
            cls(confusion=ConfusionCounts(cells), loss_sum=float(loss), top_k=int(k), top_k_correct=int(hits))
            for cells, (loss, k, hits) in zip(counts, sums, strict=True)
        )

    @classmethod
    def merge_all(cls, parts: Iterable[ScoreSums]) -> ScoreSums:
        """The sums over all parts; their order changes nothing, not even the last bit of the loss.

        Raises:
            ValueError: no part, or parts of different k or numbers of classes.
        """
        scores = list(parts)
        if not scores:
            raise ValueError("Nothing to merge. The score of no rows is ScoreSums.zero.")
        if len({(score.top_k, score.confusion.num_classes) for score in scores}) > 1:
            raise ValueError("Cannot merge scores of different k or different numbers of classes.")
        return cls(
            confusion=reduce(ConfusionCounts.merge, (score.confusion for score in scores)),
            # fsum rounds once, at the end: workers may finish in any order.
            loss_sum=math.fsum(score.loss_sum for score in scores),
            top_k=scores[0].top_k,
            top_k_correct=sum(score.top_k_correct for score in scores),
        )

    @classmethod
    def zero(cls, num_classes: int, *, top_k: int) -> ScoreSums:
        """The score of no rows, which merges without effect."""
        return cls(confusion=ConfusionCounts.zero(num_classes), loss_sum=0.0, top_k=top_k, top_k_correct=0)

    @property
    def rows(self) -> int:
        """Number of rows that were scored."""
        return self.confusion.rows

    def merge(self, other: ScoreSums) -> ScoreSums:
        """The sums over both sets of rows; counts are exact, the loss within one rounding."""
        return self.merge_all([self, other])

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """One row of plain arrays, to travel through Ray Data.

        Returns:
            confusion int64 [1, num_classes, num_classes], loss_sum float64 [1], top_k and top_k_correct
            int64 [1].
        """
        return {
            "confusion": self.confusion.counts[np.newaxis],
            "loss_sum": np.array([self.loss_sum], np.float64),
            "top_k": np.array([self.top_k], np.int64),
            "top_k_correct": np.array([self.top_k_correct], np.int64),
        }


def _as_labels(name: str, labels: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    values = np.asarray(labels)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise ValueError(f"{name} must be integers [rows]. Received {values.dtype} {list(values.shape)}.")
    outside = values[(values < 0) | (values >= num_classes)]
    if outside.size:
        raise ValueError(f"{name} must lie in 0..{num_classes - 1}. Received {outside[0]}.")
    return values.astype(np.int64)


def _as_probabilities(probabilities: ArrayLike) -> NDArray[np.float64]:
    shares = np.asarray(probabilities, np.float64)
    if shares.ndim != 2:
        raise ValueError(f"probabilities must be [rows, classes]. Received {list(shares.shape)}.")
    # Asked this way round, because a NaN answers every comparison with False.
    if not ((shares >= 0) & (shares <= 1 + 1e-3)).all():
        raise ValueError(
            f"probabilities must lie in 0..1. Received {shares.min()}..{shares.max()}. "
            "Put a softmax after a model that gives logits; a NaN comes from weights that diverged."
        )
    return shares


def _ranks(
    shares: NDArray[np.float64], true: NDArray[np.int64], of_true: NDArray[np.float64]
) -> NDArray[np.int64]:
    """How many classes come before the true one: the more probable, and the equal ones of a lower index."""
    before = shares > of_true[:, np.newaxis]
    ties = (shares == of_true[:, np.newaxis]) & (np.arange(shares.shape[1]) < true[:, np.newaxis])
    ranks: NDArray[np.int64] = (before | ties).sum(axis=1)
    return ranks
