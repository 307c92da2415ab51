"""Stored predictions in, the mistakes that a page shows out: the most confident of all and of every pair."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_PER_PAIR = 24
"""A page shows at most this many mistakes of one pair of classes."""
MAX_OF_PAIRS = 1200
"""A page shows at most this many mistakes of all pairs together."""
GALLERY_SIZE = 24
"""The gallery shows this many of the most confident mistakes of all pairs."""

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A row whose predicted class is not the true one.

    Attributes:
        label: index of the true class.
        prediction: index of the predicted class.
        probability: the model's probability of the predicted class, 0..1; None if it is not known.
        true_probability: the model's probability of the true class; None if it was not stored.
    """

    id: int
    label: int
    prediction: int
    probability: float | None
    true_probability: float | None

    @property
    def pair(self) -> Pair:
        """The true and the predicted class."""
        return self.label, self.prediction


@dataclass(frozen=True, kw_only=True)
class ShownMistakes:
    """The mistakes that a page shows.

    Attributes:
        most_confident: those of the gallery, most confident first.
        by_pair: those of the pairs of classes, in turns: the most confident of every pair, then the second of every
            pair, and so on. A page with room for fewer leaves out the last ones.
    """

    most_confident: tuple[Mistake, ...] = ()
    by_pair: tuple[Mistake, ...] = ()

    @property
    def ids(self) -> list[int]:
        """The ids of all their rows, those of the gallery first."""
        return list(dict.fromkeys(mistake.id for mistake in (*self.most_confident, *self.by_pair)))


def choose_mistakes(predictions: pa.Table, pairs: Collection[Pair] | None = None) -> ShownMistakes:
    """Chooses the mistakes that a page shows; of equally confident ones those with the lowest ids.

    Args:
        predictions: rows of the table `predictions`.
        pairs: the pairs of true and predicted class that the page can open; None: all.
    """
    wrong = predictions.filter(pc.not_equal(predictions["label"], predictions["prediction"]))
    order = np.lexsort((wrong["id"].to_numpy(), -wrong["probability"].to_numpy()))
    wrong = wrong.take(pa.array(order))
    label, prediction = (wrong[name].to_numpy().astype(np.int64) for name in ("label", "prediction"))
    rank = _rank_within(label * (int(prediction.max(initial=0)) + 1) + prediction)
    eligible = rank < MAX_PER_PAIR
    if pairs is not None:
        eligible &= np.array(
            [pair in pairs for pair in zip(label.tolist(), prediction.tolist(), strict=True)], bool
        )
    in_turns = np.argsort(rank, kind="stable")
    chosen = in_turns[eligible[in_turns]][:MAX_OF_PAIRS]
    return ShownMistakes(
        most_confident=_to_mistakes(wrong[:GALLERY_SIZE]), by_pair=_to_mistakes(wrong.take(pa.array(chosen)))
    )


def _to_mistakes(rows: pa.Table) -> tuple[Mistake, ...]:
    return tuple(
        Mistake(
            id=row["id"],
            label=row["label"],
            prediction=row["prediction"],
            probability=None if math.isnan(row["probability"]) else row["probability"],
            true_probability=_probability_of(row["label"], row["top_classes"], row["top_probabilities"]),
        )
        for row in rows.to_pylist()
    )


def _rank_within(groups: np.ndarray) -> np.ndarray:
    """Returns the rank of every element among those of its group, from 0, in the order given.

    >>> _rank_within(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_group = np.argsort(groups, kind="stable")
    ordered = groups[by_group]
    starts = (
        np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(groups) else np.array([], np.int64)
    )
    sizes = np.diff(np.r_[starts, len(groups)])
    ranks = np.empty(len(groups), np.int64)
    ranks[by_group] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return ranks


def _probability_of(
    label: int, classes: Sequence[int] | None, probabilities: Sequence[float] | None
) -> float | None:
    if classes is None or probabilities is None or label not in classes:
        return None
    return probabilities[list(classes).index(label)]
