"""A split in, mixed batches of some of its rows out: for a short training in one process, without a feed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.manifest import Manifest, Split
from cnnlib.dataset.reader import read_positions
from cnnlib.dataset.record import Rows

_FEWEST_SHARDS = 16
_PIECE_BYTES = 2**30  # of pixels that are in memory at a time


def iter_mixed_batches(
    dataset_uri: str, manifest: Manifest, split_name: str, *, batch_size: int, steps: int, seed: int
) -> Iterator[Rows]:
    """Yields a batch for every step: rows of a split in a random order; of a small split, rows come again.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """
    split = manifest.split(split_name)
    step_bytes = batch_size * math.prod(manifest.image_shape)
    piece_rows = batch_size * max(1, _PIECE_BYTES // step_bytes)
    for positions in choose_pieces(split, batch_size * steps, piece_rows, seed):
        rows = read_positions(dataset_uri, manifest, split, positions)
        for first in range(0, len(rows), batch_size):
            yield rows.slice(first, first + batch_size)


def choose_pieces(split: Split, num_rows: int, piece_rows: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yields positions of a split in a random order, int64 [at most piece_rows] each, `num_rows` in all.

    They lie in 16 random shards, or more where these have too few rows, in case rows are sorted. Every piece has shards
    of its own, so that a shard is read once.
    """
    rng = np.random.default_rng(seed)
    counts = np.array([shard.rows for shard in split.shards])
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    shards = rng.permutation(len(counts))
    enough = int(np.searchsorted(np.cumsum(counts[shards]), num_rows)) + 1
    chosen = shards[: max(enough, _FEWEST_SHARDS)]
    num_pieces = -(-num_rows // piece_rows)
    groups = np.array_split(chosen, min(num_pieces, len(chosen)))
    for piece in range(num_pieces):
        group = groups[piece % len(groups)]
        positions = np.concatenate([firsts[index] + np.arange(counts[index]) for index in group])
        size = min(piece_rows, num_rows - piece * piece_rows)
        yield np.resize(rng.permutation(positions), size).astype(np.int64)
