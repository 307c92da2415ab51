"""Reads a dataset by its manifest: the checked bytes of a shard, or the rows of a range.

It returns only bytes of shards whose sha256 is the one in the manifest. What is not in the manifest is not read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.manifest import Manifest, Shard, ShardRange, Split, whole_shard
from cnnlib.dataset.record import Rows, decode_labels, decode_shard, open_shard, table_to_rows
from cnnlib.errors import DatasetError, DigestError, NotFoundError, RowCountError
from cnnlib.storage import files, publish
from cnnlib.storage.threads import DECODE_THREADS, map_threads
from cnnlib.storage.uri import join_uri

PREFLIGHT_DIGEST_BYTES = 256 * 2**20
"""For a split up to this size, every digest is checked before a job starts. For a larger split, only the sizes of its
shards are checked then, and each digest when its shard is read."""


def check_shards(dataset_uri: str, manifest: Manifest, split_name: str) -> None:
    """Checks the size of every shard of a split, or its sha256 if the split has at most `PREFLIGHT_DIGEST_BYTES`.

    Raises:
        DatasetError: a shard is missing or does not match the manifest.
    """
    split = manifest.split(split_name)
    check = _check_digest if split.num_bytes <= PREFLIGHT_DIGEST_BYTES else _check_size
    map_threads(lambda shard: check(dataset_uri, shard), split.shards, threads=8)


def read_shard(dataset_uri: str, shard: Shard) -> bytes:
    """Reads the bytes of one shard and checks their sha256.

    Raises:
        DatasetError: the shard is missing or its bytes do not match the manifest.
    """
    try:
        return publish.read_checked(join_uri(dataset_uri, shard.name), shard.sha256)
    except NotFoundError as err:
        raise DatasetError(
            f"{dataset_uri}: the shard {shard.name} is in the manifest but not in storage."
        ) from err
    except DigestError as err:
        raise DatasetError(
            f"{err} The manifest states {shard.bytes} bytes. Prepare the dataset again."
        ) from err


def read_positions(
    dataset_uri: str, manifest: Manifest, split: Split, positions: npt.NDArray[np.int64]
) -> Rows:
    """Reads the rows at these positions of a split, in their order, without metadata; several shards in parallel.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
        RowCountError: a shard has another number of rows than the manifest states.
    """
    count = len(positions)
    rows = Rows(
        ids=np.empty(count, np.int64),
        images=np.empty((count, *manifest.image_shape), np.uint8),
        labels=np.empty(count, np.int32),
    )
    order = np.argsort(positions)
    ordered = positions[order]
    firsts = np.cumsum([0, *(shard.rows for shard in split.shards)])
    bounds = np.searchsorted(ordered, firsts)

    def fill(index: int) -> None:
        own = slice(bounds[index], bounds[index + 1])
        if own.start == own.stop:
            return
        shard = split.shards[index]
        read = read_range(dataset_uri, manifest, whole_shard(index, shard))
        into, wanted = order[own], ordered[own] - firsts[index]
        rows.ids[into], rows.labels[into] = read.ids[wanted], read.labels[wanted]
        rows.images[into] = read.images[wanted]

    map_threads(fill, range(len(split.shards)), threads=DECODE_THREADS)
    return rows


def read_labels(
    dataset_uri: str, shards: Sequence[Shard]
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
    """Reads the ids, int64 [rows], and the labels, int32 [rows], of every row of some shards; several in parallel.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """

    def read(shard: Shard) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        return decode_labels(read_shard(dataset_uri, shard), shard.name)

    return map_threads(read, shards, threads=DECODE_THREADS)


def read_range(dataset_uri: str, manifest: Manifest, shard_range: ShardRange) -> Rows:
    """Reads the rows of a shard range. It reads the whole shard, whose digest it checks.

    Raises:
        DatasetError: the shard is missing or its bytes do not match the manifest.
        RowCountError: the shard has another number of rows than the manifest states.
    """
    shard = shard_range.shard
    table = decode_shard(read_shard(dataset_uri, shard), shard.name)
    _check_rows(dataset_uri, table, shard)
    return table_to_rows(table.slice(shard_range.start, shard_range.rows), manifest.image_shape)


def open_checked_shard(dataset_uri: str, shard: Shard) -> pa.Table:
    """Opens a shard, with the images as they are stored, and checks its digest and its rows.

    Raises:
        DatasetError: the shard is missing or its bytes do not match the manifest.
        RowCountError: the shard has another number of rows than the manifest states.
    """
    table = open_shard(read_shard(dataset_uri, shard), shard.name)
    _check_rows(dataset_uri, table, shard)
    return table


def _check_rows(dataset_uri: str, table: pa.Table, shard: Shard) -> None:
    if len(table) != shard.rows:
        raise RowCountError(
            f"{dataset_uri}: the shard {shard.name} has {len(table)} rows, expected {shard.rows} as the manifest "
            "states. Prepare the dataset again."
        )


def _check_digest(dataset_uri: str, shard: Shard) -> None:
    read_shard(dataset_uri, shard)


def _check_size(dataset_uri: str, shard: Shard) -> None:
    size = files.find_size(join_uri(dataset_uri, shard.name))
    if size != shard.bytes:
        raise DatasetError(
            f"{dataset_uri}: {shard.name} does not match the manifest. "
            f"Received {'nothing' if size is None else f'{size} bytes'}, expected {shard.bytes} bytes."
        )
