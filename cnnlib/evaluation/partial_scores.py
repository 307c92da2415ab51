"""What a predictor tells the driver of the rows it scored, and the driver's pile of it, whose size has a bound."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.models.activations import LayerMaps
from cnnlib.models.cost import ModelCost
from cnnlib.reports.subject import StoredTable

TARGET, PART, STARTED, ENDED = "target", "part", "started", "ended"


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelProfile:
    """What a model is and does, whatever rows it scores.

    Attributes:
        example_id: id of the row that the pictures are of.
        layers: pictures of its image on its way through the model.
    """

    cost: ModelCost
    example_id: int
    layers: tuple[LayerMaps, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialScores:
    """The score of some rows, and where their predictions lie.

    Attributes:
        rows: the rows themselves; None where the split has too many to keep.
        predictions: the object that holds their predictions; None: they are not stored.
        busy_s: how long scoring them took, in seconds.
        explanation: of the model; None where the rows are not the first of the split.
        slices: the scores of parts of the rows, and of all of them distorted, by the slice's name.
        distorted_s: how long scoring them distorted took, in seconds.
    """

    score: MetricSums
    rows: ScoredRows | None
    predictions: StoredTable | None
    busy_s: float
    profile: ModelProfile | None = None
    slices: Mapping[str, MetricSums] = field(default_factory=dict)
    corrupted_s: float = 0.0

    def encode(self) -> bytes:
        """The part as bytes, to travel through Ray Data as one value."""
        return pickle.dumps(self, pickle.HIGHEST_PROTOCOL)

    @classmethod
    def decode(cls, data: bytes) -> PartialScores:
        """The part out of what `encode` gave, in a predictor of this very job."""
        part = pickle.loads(data)
        if not isinstance(part, cls):
            raise TypeError(f"Expected a {cls.__name__}. Received {type(part).__name__}.")
        return part


@dataclass(kw_only=True)
class Collected:
    """All parts of one target, merged as they come. Sums stay of one size; rows are kept only where they are few.

    Attributes:
        started, ended: the first beginning and the last end of scoring, in seconds since 1970; None without a part.
        busy_s: how long scoring this target's rows took, in all actors together, in seconds.
        distorted_s: how long scoring them distorted took, likewise.
        explanation: of the model, with the first row as its example; None without a row.
    """

    score: MetricSums | None = None
    started: float | None = None
    ended: float | None = None
    busy_s: float = 0.0
    corrupted_s: float = 0.0
    profile: ModelProfile | None = None
    _rows: list[ScoredRows] = field(default_factory=list)
    _predictions: list[StoredTable] = field(default_factory=list)
    _slices: dict[str, MetricSums] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes one row of what `Predictor.__call__` returns."""
        part = PartialScores.decode(row[PART])
        self.score = part.score if self.score is None else self.score.merge(part.score)
        self.busy_s += part.busy_s
        self.corrupted_s += part.corrupted_s
        started, ended = float(row[STARTED]), float(row[ENDED])
        self.started = started if self.started is None else min(self.started, started)
        self.ended = ended if self.ended is None else max(self.ended, ended)
        if part.rows is not None:
            self._rows.append(part.rows)
        if part.predictions is not None:
            self._predictions.append(part.predictions)
        self._keep_first(part.profile)
        for name, score in part.slices.items():
            self._slices[name] = self._slices[name].merge(score) if name in self._slices else score

    @property
    def seconds(self) -> float:
        """Wall time from the first beginning to the last end; 0 without a part."""
        return 0.0 if self.started is None or self.ended is None else self.ended - self.started

    def rows(self) -> ScoredRows | None:
        """All rows that were kept, sorted by id; None where none was."""
        return ScoredRows.merge_all(self._rows) if self._rows else None

    def predictions(self) -> tuple[StoredTable, ...]:
        """The objects that hold the predictions, in the order of their names, which is that of the shards."""
        return tuple(sorted(self._predictions, key=lambda stored: stored.name))

    @property
    def num_slices(self) -> int:
        """How many slices have come so far."""
        return len(self._slices)

    def slices(self) -> dict[str, MetricSums]:
        """The score of every slice, in the order of their names, in which q2 comes before q10."""
        return {name: self._slices[name] for name in sorted(self._slices, key=_natural_order)}

    def _keep_first(self, new: ModelProfile | None) -> None:
        """Keeps one explanation where the first shard came in several parts: that of the lowest id."""
        old = self.profile
        if new is not None and (old is None or new.example_id < old.example_id):
            self.profile = new


def _natural_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by what they count.

    >>> sorted(["size=q10", "size=q2"], key=_natural_order)
    ['size=q2', 'size=q10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
