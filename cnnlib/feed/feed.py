"""What feeds a training worker: macro-batches of its rows, epoch after epoch, and the rows it holds out.

Two kinds: from memory (memory.py), when all of a worker's rows fit there, and streamed from storage (stream.py).
Both are functions of the rows, the seed and the epoch: neither depends on timing.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from cnnlib.config import CacheMode
from cnnlib.dataset.manifest import Manifest, Split
from cnnlib.dataset.record import Rows
from cnnlib.feed.order import ValidationSplit

Cache = Literal["memory", "none"]

# A worker has its rows, TensorFlow and batches in memory: rows may take this share of it.
_MEMORY_SHARE = 0.5
_ROW_EXTRA_BYTES = 12  # id and label


@dataclass(frozen=True, kw_only=True)
class HostBatch:
    """Some steps' batches of one worker, in memory.

    Attributes:
        images: uint8 [steps, worker batch, height, width, channels].
        labels: int32 [steps, worker batch].
        ids: int64 [steps, worker batch], the ids of the rows.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    ids: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FeedTask:
    """What a worker reads.

    Attributes:
        split_name: of the split that is trained on.
        validation_fraction: share of its rows that is held out.
        batch_size: the global batch.
        rank: this worker's, of `workers`.
    """

    dataset_uri: str
    manifest: Manifest
    split_name: str
    batch_size: int
    validation_fraction: float = 0.0
    seed: int = 0
    rank: int = 0
    workers: int = 1

    @property
    def split(self) -> Split:
        """The split."""
        return self.manifest.split(self.split_name)

    @property
    def validation_split(self) -> ValidationSplit:
        """Which of its rows are not trained on."""
        return ValidationSplit.of(self.split.rows, self.validation_fraction)

    @property
    def worker_batch_size(self) -> int:
        """Rows of one step of this worker."""
        return self.batch_size // self.workers


class Feed(Protocol):
    """A worker's rows, ready to be trained on."""

    def epoch(self, epoch: int, steps: int, steps_per_call: int) -> Generator[HostBatch]:
        """Yields an epoch's batches: `steps_per_call` steps each, the last maybe fewer, `steps` in all."""

    def validation_rows(self) -> Iterator[Rows]:
        """Yields the rows held out, some at a time."""


def worker_bytes(manifest: Manifest, split: Split, workers: int) -> int:
    """Bytes of one worker's rows in memory."""
    return -(-split.rows // workers) * (math.prod(manifest.image_shape) + _ROW_EXTRA_BYTES)


def choose_cache(asked: CacheMode, needed_bytes: int, free_bytes: int) -> Cache:
    """Where a worker's rows are kept: where asked, else in memory if they take at most half of what there is.

    Args:
        needed_bytes: of one worker's rows.
        free_bytes: memory for one worker.

    >>> choose_cache("auto", needed_bytes=2**30, free_bytes=16 * 2**30)
    'memory'
    >>> choose_cache("auto", needed_bytes=2**34, free_bytes=16 * 2**30)
    'none'
    """
    if asked != "auto":
        return asked
    return "memory" if needed_bytes <= _MEMORY_SHARE * free_bytes else "none"
