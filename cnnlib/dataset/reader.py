"""Reads a dataset by its manifest: the checked bytes of a shard, or the rows of a range.

It returns only bytes of shards whose sha256 is the one in the manifest. What is not in the manifest is not read.
"""

from __future__ import annotations

import numpy as np

from cnnlib.dataset.manifest import Manifest, Shard, ShardRange, Split, shard_ranges
from cnnlib.dataset.record import Rows, decode_shard, table_to_rows
from cnnlib.errors import DatasetError, DigestError, NotFoundError
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


def read_rows(dataset_uri: str, manifest: Manifest, split: Split, start: int, stop: int) -> Rows:
    """Reads the rows at positions [start, stop) of a split, without metadata; several shards in parallel.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """
    count = stop - start
    rows = Rows(
        ids=np.empty(count, np.int64),
        images=np.empty((count, *manifest.image_shape), np.uint8),
        labels=np.empty(count, np.int32),
    )
    ranges = list(shard_ranges(split.shards, start, stop))
    first_indexes = np.cumsum([0, *(shard_range.rows for shard_range in ranges)])

    def fill(shard_range: ShardRange, first: int) -> None:
        read = read_range(dataset_uri, manifest, shard_range)
        own = slice(first, first + shard_range.rows)
        rows.ids[own], rows.images[own], rows.labels[own] = read.ids, read.images, read.labels

    map_threads(
        lambda each: fill(*each),
        zip(ranges, first_indexes.tolist(), strict=False),
        threads=DECODE_THREADS,
    )
    return rows


def read_range(dataset_uri: str, manifest: Manifest, shard_range: ShardRange) -> Rows:
    """Reads the rows of a shard range. It reads the whole shard, whose digest it checks.

    Raises:
        DatasetError: the shard is missing or its bytes do not match the manifest.
    """
    table = decode_shard(read_shard(dataset_uri, shard_range.shard), shard_range.shard.name)
    return table_to_rows(table.slice(shard_range.start, shard_range.rows), manifest.image_shape)


def _check_digest(dataset_uri: str, shard: Shard) -> None:
    read_shard(dataset_uri, shard)


def _check_size(dataset_uri: str, shard: Shard) -> None:
    size = files.find_size(join_uri(dataset_uri, shard.name))
    if size != shard.bytes:
        raise DatasetError(
            f"{dataset_uri}: {shard.name} does not match the manifest. "
            f"Received {'nothing' if size is None else f'{size} bytes'}, expected {shard.bytes} bytes."
        )
