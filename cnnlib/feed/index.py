"""Reads ids and labels before a run starts, and decides what all workers must agree on: `RowIndex`.

These are the validation rows, and into how many pieces the stream cuts a shard. Both depend on the data set and the
seed alone, so a run that continues finds them again. It holds 12 bytes per row while it chooses validation rows, and
one bit per row afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnlib.dataset.manifest import Manifest, Split
from cnnlib.dataset.reader import read_labels
from cnnlib.feed.feed import Cache
from cnnlib.feed.order import VIRTUAL_SHARDS
from cnnlib.feed.validation import ValidationSplit, choose_validation_rows, count_validation_rows
from cnnlib.log import log_event

_SAMPLED_SHARDS = 16
_PIECES = 16 * VIRTUAL_SHARDS  # of a split whose classes are not mixed: 16 for each virtual shard
_LARGEST_EFFECT = 0.04  # Cohen's w squared: every class is 20 % more or less frequent than in the split
_LARGEST_SIGMAS = 6.0


@dataclass(frozen=True, kw_only=True)
class RowIndex:
    """What all workers of a run must agree on; see `FeedTask` for the attributes."""

    validation_split: ValidationSplit
    pieces_per_shard: int


def index_rows(
    dataset_uri: str, manifest: Manifest, split_name: str, *, fraction: float, seed: int, cache: Cache
) -> RowIndex:
    """Chooses the validation rows, and for a stream the pieces of a shard.

    It reads all shards of the split if there are validation rows; else, for a stream, 16 of them.

    Args:
        fraction: fraction of the rows to keep from training.
        seed: the run's seed.

    Raises:
        ConfigError: the fraction gives fewer rows than one per class.
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """
    split = manifest.split(split_name)
    return RowIndex(
        validation_split=_choose_validation_rows(dataset_uri, split, fraction, seed),
        pieces_per_shard=_choose_pieces(dataset_uri, split) if cache == "none" else 1,
    )


def is_mixed(labels: Sequence[np.ndarray], rows_per_class: Sequence[int]) -> bool:
    """Returns whether every shard has the classes about as often as the whole split has them.

    A shard differs if Pearson's chi-squared statistic against the proportions of the split is too large by chance (6
    standard deviations above its mean) and by size (0.04 per row, which is Cohen's w = 0.2).

    Args:
        labels: the labels of some shards or parts of shards, each int32 [rows].
        rows_per_class: rows of each class in the split.

    >>> is_mixed([np.array([0, 1] * 100), np.array([1, 0] * 100)], [200, 200])
    True
    >>> is_mixed([np.array([0] * 200), np.array([1] * 200)], [200, 200])
    False
    """
    proportions = np.asarray(rows_per_class) / max(sum(rows_per_class), 1)
    present = proportions > 0
    freedom = max(int(present.sum()) - 1, 1)
    for some in filter(len, labels):
        expected = len(some) * proportions[present]
        counts = np.bincount(some, minlength=len(proportions))[present]
        excess = float(((counts - expected) ** 2 / expected).sum()) - freedom
        if excess > _LARGEST_SIGMAS * np.sqrt(2 * freedom) and excess > _LARGEST_EFFECT * len(some):
            return False
    return True


def _choose_validation_rows(dataset_uri: str, split: Split, fraction: float, seed: int) -> ValidationSplit:
    if not fraction:
        return ValidationSplit.none(split.rows)
    counts = count_validation_rows(split.rows_per_class, fraction)
    read = read_labels(dataset_uri, split.shards)
    ids = np.concatenate([ids for ids, _ in read])
    labels = np.concatenate([labels for _, labels in read])
    return ValidationSplit.of(choose_validation_rows(ids, labels, counts, seed))


def _choose_pieces(dataset_uri: str, split: Split) -> int:
    """Returns 1 if the shards have mixed classes, else so many that the split has 256 pieces or more."""
    shards = split.shards
    if len(shards) >= _PIECES:
        return 1
    count = min(_SAMPLED_SHARDS, len(shards))
    sample = [shards[index * len(shards) // count] for index in range(count)]
    # Of a few shards the virtual shards read parts, which must be mixed, too.
    parts = -(-VIRTUAL_SHARDS // len(shards))
    read = read_labels(dataset_uri, sample)
    labels = [part for _, shard_labels in read for part in np.array_split(shard_labels, parts)]
    if is_mixed(labels, split.rows_per_class):
        return 1
    pieces = -(-_PIECES // len(shards))
    log_event(
        "stream",
        note="the rows are not mixed (sorted by class?): each shard is read in pieces, so that every worker gets a "
        "fair sample; this is slower, and batches close in time have the same few classes. Shuffle the rows before "
        "jobs.prepare, or give --cache memory.",
        pieces_per_shard=pieces,
    )
    return pieces
