"""Computes the order of rows: which row fills which position of which global batch in an epoch.

This is pure arithmetic on counts, a seed and an epoch. The training rows are dealt into `batch_size` *partitions* by a
permutation that the seed gives, so that each is a fair sample of the split. Every epoch shuffles each partition anew,
and each partition fills one position of every global batch. A worker owns neighbouring partitions and needs no other
rows. So a global batch holds the same rows for any number of workers.

Partitions differ in length by at most one row. An epoch has `rows // batch_size` steps, so a longer partition leaves
one row out in each epoch, a random one: the remainder of an epoch rotates.

Rows that do not fit into memory are streamed, and cannot be picked one by one. There, neighbouring partitions are one
*virtual shard*, of which there are always 16. The shards of the split, or pieces of them, are dealt to the virtual
shards. A virtual shard reads its pieces one after the other, in an order that is new every epoch, and shuffles the rows
of each piece anew every epoch. A worker reads the virtual shards of its positions. Where the number of workers does not
divide 16, two neighbours read the same virtual shard and each takes the rows of its own positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cnnlib.feed.validation import ValidationSplit

Positions = npt.NDArray[np.int64]

ROW_ORDER_VERSION = 2
"""Changes when rows are chosen or ordered in another way: a run continues only in the order that it began with."""
VIRTUAL_SHARDS = 16
_RANGES, _ROWS, _DEALT = 1, 2, 3  # part of a generator's seed, so that no two draws share one


class RowRange(NamedTuple):
    """Holds the positions [start, stop) of a split."""

    start: int
    stop: int


class Share(NamedTuple):
    """Describes what a worker takes of a virtual shard.

    Attributes:
        width: rows that the virtual shard gives to one step, over all workers.
        taken: which of them the worker takes.
        columns: the positions of the worker batch that they fill.
    """

    virtual_shard: int
    width: int
    taken: slice
    columns: slice


def deal_rows(num_rows: int, seed: int) -> Positions:
    """Returns the training rows in the order in which they are dealt to the partitions, int64 [num_rows].

    It is a permutation of all of them, so that every partition is a fair sample whatever the storage order.
    """
    return np.random.default_rng([seed, _DEALT]).permutation(num_rows)


def deal_pieces(num_pieces: int, seed: int) -> Positions:
    """Returns the order in which the pieces of a split are laid out for the virtual shards, int64 [num_pieces].

    Of every 16 neighbouring pieces, each virtual shard gets one, drawn at random. So each has pieces of every part of
    the split, also where its rows are sorted, and no period of the storage order can agree with that of the dealing.
    """
    rng = np.random.default_rng([seed, _DEALT])
    blocks = -(-num_pieces // VIRTUAL_SHARDS)
    owners = np.concatenate([rng.permutation(VIRTUAL_SHARDS) for _ in range(blocks)])[:num_pieces]
    return np.argsort(owners, kind="stable")


def cut_pieces(shard_rows: Sequence[int], pieces_per_shard: int) -> list[RowRange]:
    """Cuts every shard into equal pieces, each at least one row long; returns their positions in the split."""
    pieces, first = [], 0
    for rows in shard_rows:
        count = min(pieces_per_shard, rows)
        bounds = [first + index * rows // count for index in range(count + 1)]
        pieces += [RowRange(start, stop) for start, stop in pairwise(bounds)]
        first += rows
    return pieces


def virtual_shard_columns(batch_size: int) -> Positions:
    """Returns which positions of a batch each virtual shard fills, int64 [virtual shards + 1].

    Virtual shard v fills the positions [columns[v], columns[v + 1]). There are 16 virtual shards, whatever the number
    of workers, or as many as a smaller batch has rows.
    """
    count = min(VIRTUAL_SHARDS, batch_size)
    return np.arange(count + 1, dtype=np.int64) * batch_size // count


def worker_shares(batch_size: int, workers: int, rank: int) -> list[Share]:
    """Returns what a worker takes of the virtual shards, whose rows fill the positions of its worker batch in order."""
    size = batch_size // workers
    start, stop = rank * size, (rank + 1) * size
    shares = []
    for number, (first, end) in enumerate(pairwise(virtual_shard_columns(batch_size).tolist())):
        low, high = max(first, start), min(end, stop)
        if low < high:
            taken, columns = slice(low - first, high - first), slice(low - start, high - start)
            shares.append(Share(number, end - first, taken, columns))
    return shares


def split_pieces(
    pieces: Sequence[RowRange], validation_split: ValidationSplit, batch_size: int
) -> list[list[RowRange]]:
    """Cuts a sequence of pieces into the virtual shards; each has the training rows of its partitions.

    Every position of the pieces belongs to exactly one virtual shard.
    """
    columns = virtual_shard_columns(batch_size)
    bounds = partition_bounds(validation_split.train_rows, batch_size)[columns]
    shards: list[list[RowRange]] = [[] for _ in columns[1:]]
    shard, done = 0, 0  # the virtual shard that is filled now, and the training rows before the piece
    for piece in pieces:
        train = np.flatnonzero(~validation_split.mask(*piece))
        start = piece.start
        while shard + 1 < len(shards) and done + len(train) > bounds[shard + 1]:
            stop = piece.start + int(train[bounds[shard + 1] - done])
            if start < stop:
                shards[shard].append(RowRange(start, stop))
            start, shard = stop, shard + 1
        shards[shard].append(RowRange(start, piece.stop))
        done += len(train)
    return shards


def range_order(num_ranges: int, seed: int, epoch: int, virtual_shard: int) -> Positions:
    """Returns the order in which a virtual shard reads its shard ranges in an epoch, int64 [num_ranges]."""
    return np.random.default_rng([seed, epoch, virtual_shard, _RANGES]).permutation(num_ranges)


def row_order(num_rows: int, seed: int, epoch: int, virtual_shard: int, range_index: int) -> Positions:
    """Returns the order of the training rows of one shard range in an epoch, int64 [num_rows]."""
    return np.random.default_rng([seed, epoch, virtual_shard, _ROWS, range_index]).permutation(num_rows)


def partition_bounds(num_rows: int, batch_size: int) -> Positions:
    """Returns the bounds of the partitions, int64 [batch_size + 1].

    Partition j owns the training rows [bounds[j], bounds[j + 1]).
    """
    return np.arange(batch_size + 1, dtype=np.int64) * num_rows // batch_size


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Returns the number of whole global batches in an epoch."""
    return num_rows // batch_size


def epoch_order(num_rows: int, batch_size: int, partitions: range, seed: int, epoch: int) -> Positions:
    """Returns the training rows of every step of an epoch, one column per partition.

    A column is a permutation of its partition's rows, less one row where the partition has more rows than there are
    steps. It depends only on the seed, the epoch and the partition.

    Args:
        num_rows: training rows of the whole split.
        batch_size: rows of a global batch.
        partitions: the partitions of one worker, or of all.
        seed: the run's seed.
        epoch: the number of the epoch, from 1.

    Returns:
        Indexes into the training rows, int64 [steps, partitions].
    """
    bounds = partition_bounds(num_rows, batch_size)
    steps = steps_per_epoch(num_rows, batch_size)
    order = np.empty((steps, len(partitions)), np.int64)
    for column, partition in enumerate(partitions):
        rng = np.random.default_rng([seed, epoch, partition])
        order[:, column] = (
            bounds[partition] + rng.permutation(bounds[partition + 1] - bounds[partition])[:steps]
        )
    return order


def worker_partitions(batch_size: int, workers: int, rank: int) -> range:
    """Returns the partitions of one worker: batch_size / workers of them, contiguous."""
    count = batch_size // workers
    return range(rank * count, (rank + 1) * count)
