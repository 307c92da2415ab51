"""Stored predictions in, the mistakes that a page shows out: the surest of all, and of every pair of classes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PER_PAIR = 24
"""How many mistakes of one pair of classes a page shows at most."""
IN_ALL = 1200
"""How many it shows in all at most."""
GALLERY = 24
"""How many of the surest, of whatever pair, it shows without being asked."""

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A row whose predicted class is not the true one.

    Attributes:
        label: index of the true class.
        prediction: index of the predicted class.
        probability: the model's probability of the predicted class, 0..1.
        truth: its probability of the true class; None where that was not among those stored.
    """

    id: int
    label: int
    prediction: int
    probability: float
    truth: float | None

    @property
    def pair(self) -> Pair:
        """True and predicted class."""
        return self.label, self.prediction


@dataclass(frozen=True, kw_only=True)
class ShownMistakes:
    """The mistakes that a page shows: `surest` first in a gallery, `of_pairs` when a pair of classes is asked for.

    Both are sorted, but `of_pairs` in turns: every pair's surest, then every pair's second, and so on. Who shows fewer
    of them drops the last.
    """

    surest: tuple[Mistake, ...] = ()
    of_pairs: tuple[Mistake, ...] = ()

    @property
    def ids(self) -> set[int]:
        """Ids of all their rows."""
        return {mistake.id for mistake in (*self.surest, *self.of_pairs)}


def choose_mistakes(predictions: pa.Table, pairs: Collection[Pair] | None = None) -> ShownMistakes:
    """The mistakes of some predictions that a page shows; among equally sure ones those with the lowest ids.

    Args:
        predictions: a table `predictions`, of any part of the split.
        pairs: true and predicted classes that can be asked for; None: all.
    """
    wrong = predictions.filter(pc.not_equal(predictions["label"], predictions["prediction"]))
    order = np.lexsort((wrong["id"].to_numpy(), -wrong["probability"].to_numpy()))
    wrong = wrong.take(pa.array(order))
    label, prediction = (wrong[name].to_numpy().astype(np.int64) for name in ("label", "prediction"))
    rank = _rank_within(label * (int(prediction.max(initial=0)) + 1) + prediction)
    eligible = rank < PER_PAIR
    if pairs is not None:
        eligible &= np.array(
            [pair in pairs for pair in zip(label.tolist(), prediction.tolist(), strict=True)], bool
        )
    in_turns = np.argsort(rank, kind="stable")
    chosen = in_turns[eligible[in_turns]][:IN_ALL]
    return ShownMistakes(
        surest=_to_mistakes(wrong[:GALLERY]), of_pairs=_to_mistakes(wrong.take(pa.array(chosen)))
    )


def _to_mistakes(rows: pa.Table) -> tuple[Mistake, ...]:
    return tuple(
        Mistake(
            id=row["id"],
            label=row["label"],
            prediction=row["prediction"],
            probability=row["probability"],
            truth=_probability_of(row["label"], row["top_classes"], row["top_probabilities"]),
        )
        for row in rows.to_pylist()
    )


def _rank_within(groups: np.ndarray) -> np.ndarray:
    """The place of every element among those of its group, from 0, in the order given.

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
