"""Defines the feed of a training worker: what it is built from, and the protocol by which it gives batches and rows.

There are two feeds: one keeps all of a worker's rows in memory (memory.py), one takes them as a stream (stream.py).
The batches of both depend only on the task and the epoch, never on timing.
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
from cnnlib.feed.validation import ValidationSplit

Cache = Literal["memory", "none"]

MACRO_BATCH_BYTES = 8 * 2**20
MAX_BYTES_IN_MEMORY = 2 * 2**30
"""A split whose rows take more is streamed unless the config says otherwise."""
# The fraction of a worker's memory that its rows may take: TensorFlow and batches need memory too.
_MEMORY_FRACTION = 0.5
# The fraction of Ray's object store that rows may take: they are dealt through it and stay there, and what does not fit
# goes to the disk.
_STORE_FRACTION = 0.8
_ID_AND_LABEL_BYTES = 12


@dataclass(frozen=True, kw_only=True)
class HostBatch:
    """Holds one worker's batches of several steps, in host memory.

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
    """Describes what one worker of a run reads.

    Attributes:
        split_name: the split that the run trains on.
        batch_size: rows of a global batch; a multiple of `workers`.
        validation_split: which rows of the split are kept from training.
        pieces_per_shard: pieces into which the stream cuts every shard, so that each worker's share is a fair sample.
        min_crop_area: the smallest part of an image's area that a random crop keeps; 1: images are not cropped.
        rank: rank of this worker, 0..workers - 1.
    """

    dataset_uri: str
    manifest: Manifest
    split_name: str
    batch_size: int
    validation_split: ValidationSplit
    pieces_per_shard: int = 1
    seed: int = 0
    min_crop_area: float = 1.0
    rank: int = 0
    workers: int = 1

    @property
    def split(self) -> Split:
        """Returns the split that the run trains on."""
        return self.manifest.split(self.split_name)

    @property
    def worker_batch_size(self) -> int:
        """Returns the number of rows of one step of this worker."""
        return self.batch_size // self.workers


class Feed(Protocol):
    """Gives one worker its rows of a run."""

    def epoch(self, epoch: int, steps: int, steps_per_call: int, done_steps: int = 0) -> Generator[HostBatch]:
        """Yields the batches of one epoch, those of several steps at a time.

        Args:
            epoch: the number of the epoch, from 1.
            steps: steps of the whole epoch.
            steps_per_call: steps of every `HostBatch`; the last may have fewer.
            done_steps: the first steps of the epoch, whose batches are left out; the others stay what they are.
        """

    def validation_rows(self) -> Iterator[Rows]:
        """Yields the worker's validation rows, some at a time."""


@dataclass(frozen=True)
class TwoSplits:
    """A feed whose validation rows are a split of their own.

    Attributes:
        train: gives the epochs.
        validation: gives the validation rows.
    """

    train: Feed
    validation: Feed

    def epoch(self, epoch: int, steps: int, steps_per_call: int, done_steps: int = 0) -> Generator[HostBatch]:
        """Implements `Feed.epoch`."""
        return self.train.epoch(epoch, steps, steps_per_call, done_steps)

    def validation_rows(self) -> Iterator[Rows]:
        """Implements `Feed.validation_rows`."""
        return self.validation.validation_rows()


def fit_steps_per_call(steps_per_call: int, step_bytes: int) -> int:
    """Returns how many steps one `HostBatch` has: fewer than asked for if their pixels take more than 8 MiB.

    Memory of that size is used again; larger pieces cost 0.4 ms per image of 224x224x3 to be allocated anew.

    Args:
        step_bytes: pixels of one step of a worker.

    >>> fit_steps_per_call(25, 32 * 28 * 28), fit_steps_per_call(25, 32 * 224 * 224 * 3)
    (25, 1)
    """
    return max(1, min(steps_per_call, MACRO_BATCH_BYTES // step_bytes))


def split_bytes(manifest: Manifest, split_name: str) -> int:
    """Returns the bytes that the rows of a split take in memory."""
    return manifest.split(split_name).rows * (math.prod(manifest.image_shape) + _ID_AND_LABEL_BYTES)


def choose_cache(mode: CacheMode, num_bytes: int, *, cropped: bool) -> Cache:
    """Chooses where rows are kept. It depends on the data and the config alone, as the order of rows depends on it.

    Args:
        num_bytes: of all rows of the split.
        cropped: whether every epoch crops the rows anew.

    >>> choose_cache("auto", 2**31, cropped=False), choose_cache("auto", 2**31 + 1, cropped=False)
    ('memory', 'none')
    """
    if mode != "auto":
        return mode
    return "none" if cropped or num_bytes > MAX_BYTES_IN_MEMORY else "memory"


def fits_in_memory(worker_bytes: int, free_bytes: int, store_bytes: int) -> bool:
    """Returns whether the rows of one worker fit: into half of its memory, and into 80 % of its object store.

    Args:
        free_bytes: memory of one worker.
        store_bytes: one worker's part of the object store of its machine.
    """
    return worker_bytes <= _MEMORY_FRACTION * free_bytes and worker_bytes <= _STORE_FRACTION * store_bytes
