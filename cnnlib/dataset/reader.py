"""Rows out of a data set's shards: a range of a split, or some rows of one shard, checked against the manifest."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnnlib.dataset.manifest import Manifest, Shard, ShardRange, Split, shard_ranges
from cnnlib.dataset.record import Rows, decode_shard, table_to_rows
from cnnlib.errors import DatasetError, NotFoundError
from cnnlib.storage import files, publish
from cnnlib.storage.uri import join_uri

READERS = min(4, os.cpu_count() or 1)
"""Shards that are read side by side by one process."""
PREFLIGHT_DIGEST_BYTES = 256 * 2**20
"""Splits up to this size have every digest checked before a job starts; bigger ones have sizes checked, and
each digest when its shard is read."""


def check_shards(dataset_uri: str, manifest: Manifest, split_name: str) -> None:
    """Checks that the shards of a split are there and whole, as far as that is cheap.

    Sizes always, sha256 too where the split is at most `PREFLIGHT_DIGEST_BYTES`.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """
    split = manifest.split(split_name)
    check = _check_digest if split.num_bytes <= PREFLIGHT_DIGEST_BYTES else _check_size
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda shard: check(dataset_uri, shard), split.shards))


def read_shard(dataset_uri: str, shard: Shard) -> bytes:
    """Reads one shard's bytes and checks them against the manifest.

    Raises:
        DatasetError: the shard is missing or its bytes do not match.
    """
    try:
        data = files.read_bytes(join_uri(dataset_uri, shard.name))
    except NotFoundError as err:
        raise DatasetError(
            f"{dataset_uri}: the shard {shard.name} is in the manifest but not in storage."
        ) from err
    digest = publish.sha256_hex(data)
    if digest != shard.sha256:
        raise DatasetError(
            f"{dataset_uri}: the bytes of {shard.name} do not match the manifest. Received {len(data)} bytes with "
            f"sha256 {digest[:12]}…, expected {shard.bytes} bytes with {shard.sha256[:12]}…. "
            "Prepare the data set again."
        )
    return data


def read_rows(dataset_uri: str, manifest: Manifest, split: Split, start: int, stop: int) -> Rows:
    """Reads rows [start, stop) of a split, several shards at a time, into arrays made for them.

    Raises:
        DatasetError: a shard is missing or its bytes do not match the manifest.
    """
    count = stop - start
    rows = Rows(
        ids=np.empty(count, np.int64),
        images=np.empty((count, *manifest.image_shape), np.uint8),
        labels=np.empty(count, np.int32),
    )
    slices = list(shard_ranges(split.shards, start, stop))
    firsts = np.cumsum([0, *(part.stop - part.start for part in slices)])

    def fill(part: ShardRange, first: int) -> None:
        some, end = read_range(dataset_uri, manifest, part), first + part.stop - part.start
        rows.ids[first:end], rows.images[first:end], rows.labels[first:end] = (
            some.ids,
            some.images,
            some.labels,
        )

    with ThreadPoolExecutor(READERS, thread_name_prefix="read-rows") as pool:
        list(pool.map(fill, slices, firsts.tolist()))
    return rows


def read_range(dataset_uri: str, manifest: Manifest, part: ShardRange) -> Rows:
    """Reads some rows of one shard; the whole shard is read, to check its digest.

    Raises:
        DatasetError: the shard is missing or its bytes do not match the manifest.
    """
    table = decode_shard(read_shard(dataset_uri, part.shard), part.shard.name)
    return table_to_rows(table.slice(part.start, part.stop - part.start), manifest.image_shape)


def _check_digest(dataset_uri: str, shard: Shard) -> None:
    read_shard(dataset_uri, shard)


def _check_size(dataset_uri: str, shard: Shard) -> None:
    size = files.find_size(join_uri(dataset_uri, shard.name))
    if size != shard.bytes:
        raise DatasetError(
            f"{dataset_uri}: {shard.name} does not match the manifest. "
            f"Received {'nothing' if size is None else f'{size} bytes'}, expected {shard.bytes} bytes."
        )
