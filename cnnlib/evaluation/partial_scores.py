"""The partial scores that a predictor returns for a block of rows, and how the driver merges them as they arrive."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cnnlib.errors import CnnlibError
from cnnlib.evaluate_config import ModelInputs
from cnnlib.evaluation.target import OutputKind
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.models.activations import LayerMaps
from cnnlib.models.cost import ModelCost
from cnnlib.reports.manifest import StoredTable

# The columns of the block that a predictor returns: one row per target.
TARGET_INDEX = "target_index"
PARTIAL_SCORES = (
    "partial_scores"  # as `encode_outcome` returns them: the partial scores, or why there are none
)
NUM_ROWS = "num_rows"  # the rows of the block, whether or not the target scored them
SECONDS = "seconds"  # how long the predictor took to score the block with all targets

NO_TARGET = -1  # the index in a block that holds one error, which concerns all targets


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelProfile:
    """A model's cost, what it takes and gives, and its activations for one image.

    Attributes:
        pixel_range: the range of the pixels that it is given.
        outputs: what its outputs are taken for.
        example_id: id of the row whose image was used.
        layers: pictures of the image and of the layers' outputs.
    """

    cost: ModelCost
    pixel_range: ModelInputs
    outputs: OutputKind
    example_id: int
    layers: tuple[LayerMaps, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialScores:
    """The result of one target for some rows.

    Attributes:
        sums: the metric sums of the rows.
        rows: the rows themselves; None if the split has too many to keep.
        predictions: the objects that hold their predictions; None if predictions are not stored.
        busy_s: seconds that scoring them took.
        profile: the model's profile; None unless the rows are of the split's first shard.
        slices: the metric sums of each slice of the rows, and of all rows under each corruption, by the slice's name.
        corrupted_s: seconds that scoring the corrupted rows took.
    """

    sums: MetricSums
    rows: ScoredRows | None
    predictions: tuple[StoredTable, ...] | None
    busy_s: float
    profile: ModelProfile | None = None
    slices: Mapping[str, MetricSums] = field(default_factory=dict)
    corrupted_s: float = 0.0

    def merge(self, other: PartialScores) -> PartialScores:
        """Returns the scores of both sets of rows, of one target and one shard, with the profile of the first."""
        rows = (
            None if self.rows is None or other.rows is None else ScoredRows.merge_all([self.rows, other.rows])
        )
        stored = None if self.predictions is None else self.predictions + (other.predictions or ())
        return replace(
            self,
            sums=self.sums.merge(other.sums),
            rows=rows,
            predictions=stored,
            busy_s=self.busy_s + other.busy_s,
            slices=merge_slices(self.slices, other.slices),
            corrupted_s=self.corrupted_s + other.corrupted_s,
        )


def merge_slices(a: Mapping[str, MetricSums], b: Mapping[str, MetricSums]) -> dict[str, MetricSums]:
    """Returns the metric sums of every slice that has rows in either."""
    return {**a, **{name: a[name].merge(sums) if name in a else sums for name, sums in b.items()}}


def encode_outcome(outcome: PartialScores | CnnlibError) -> bytes:
    """Returns partial scores, or the error in their place, as bytes, which pass through Ray Data as one value.

    Errors are values here, because Ray Data loses the cause of an exception on the way to the driver.
    """
    return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)


def decode_outcome(data: bytes) -> PartialScores | CnnlibError:
    """Returns what `encode_outcome` turned into bytes. Only for bytes from a process of this job."""
    outcome = pickle.loads(data)
    if not isinstance(outcome, (PartialScores, CnnlibError)):
        raise TypeError(f"Expected partial scores or an error. Received {type(outcome).__name__}.")
    return outcome


@dataclass(kw_only=True)
class CollectedScores:
    """The partial scores of one target, merged as they arrive.

    The size of the sums does not depend on the number of rows. Rows are kept only if the split has few.

    Attributes:
        error: the first reason why rows could not be scored with this target; None if there was none.
        sums: the metric sums of all rows; None before the first partial scores.
        started_at, ended_at: when scoring first began and last ended, by the clock of the driver, which alone
            measures the time: the clocks of several machines differ; None before the first partial scores.
        busy_s: seconds that scoring this target's rows took, in all predictors together.
        corrupted_s: seconds that scoring the corrupted rows took, likewise.
        profile: the model's profile, with the split's first row as its example; None without a row.
        has_probabilities: False if only the predicted classes are known.
    """

    error: CnnlibError | None = None
    sums: MetricSums | None = None
    started_at: float | None = None
    ended_at: float | None = None
    busy_s: float = 0.0
    corrupted_s: float = 0.0
    profile: ModelProfile | None = None
    has_probabilities: bool = True
    _rows: list[ScoredRows] = field(default_factory=list)
    _predictions: list[StoredTable] = field(default_factory=list)
    _slices: dict[str, MetricSums] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any], now: float) -> None:
        """Merges one row of the block that `Predictor.__call__` returns.

        Args:
            row: the row, column by column.
            now: the time on the driver's clock, in seconds since some fixed moment.
        """
        scores = decode_outcome(row[PARTIAL_SCORES])
        if isinstance(scores, CnnlibError):
            self.error = self.error or scores
            return
        started_at = now - float(row[SECONDS])
        self.started_at = started_at if self.started_at is None else min(self.started_at, started_at)
        self.ended_at = now if self.ended_at is None else max(self.ended_at, now)
        self.merge(scores)

    def merge(self, scores: PartialScores) -> None:
        """Merges the scores of further rows."""
        self.sums = scores.sums if self.sums is None else self.sums.merge(scores.sums)
        self.busy_s += scores.busy_s
        self.corrupted_s += scores.corrupted_s
        if scores.rows is not None:
            self._rows.append(scores.rows)
        if scores.predictions is not None:
            self._predictions += scores.predictions
        self._keep_first_profile(scores.profile)
        self._slices = merge_slices(self._slices, scores.slices)

    @property
    def seconds(self) -> float:
        """Wall time from the first start to the last end of scoring; 0 before the first partial scores."""
        if self.started_at is None or self.ended_at is None:
            return 0.0
        return self.ended_at - self.started_at

    def rows(self) -> ScoredRows | None:
        """Returns all rows that were kept, sorted by id; None if none was kept."""
        return ScoredRows.merge_all(self._rows) if self._rows else None

    def predictions(self) -> tuple[StoredTable, ...]:
        """Returns the objects that hold the predictions, sorted by name, which is the order of the shards."""
        return tuple(sorted(self._predictions, key=lambda stored: stored.name))

    @property
    def num_slices(self) -> int:
        """The number of different slices so far."""
        return len(self._slices)

    def slices(self) -> dict[str, MetricSums]:
        """Returns the metric sums of every slice, sorted by name; q2 comes before q10."""
        return {name: self._slices[name] for name in sorted(self._slices, key=_natural_order)}

    def _keep_first_profile(self, new: ModelProfile | None) -> None:
        """Keeps the profile with the lowest example id: the first shard may arrive in several blocks, in any order."""
        old = self.profile
        if new is not None and (old is None or new.example_id < old.example_id):
            self.profile = new


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Returns a key that sorts the numbers within names by their value.

    >>> sorted(["size=q10", "size=q2"], key=_natural_order)
    ['size=q2', 'size=q10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
