"""Manifest in, Ray Datasets out: the only reader of shards through Ray Data.

A read task takes the bytes of one shard, checks them against the manifest and gives the rows asked for. Training
gives every worker a Dataset of its own contiguous rows, in order; evaluation takes one Dataset of the whole split.
Neither goes through `streaming_split(equal=True)`, which drops rows and deals blocks to whoever asks first
(https://github.com/ray-project/ray/issues/63285).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, DataIterator, Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.train import DataConfig

from cnnlib.data.manifest import Manifest, ShardSlice, read_shard, slice_rows
from cnnlib.data.order import split_rows
from cnnlib.data.record import Rows, decode_shard, table_to_rows

SHARD_INDEX = "shard_index"
TRAIN_SHARD = "train"


class ShardDatasource(Datasource):  # type: ignore[misc]
    """The rows [start, stop) of a split, one read task per shard, in manifest order."""

    def __init__(self, dataset_uri: str, manifest: Manifest, split: str, start: int, stop: int) -> None:
        super().__init__()
        self._dataset_uri = dataset_uri
        self._row_bytes = manifest.image_shape[0] * manifest.image_shape[1] * manifest.image_shape[2]
        self._slices = list(slice_rows(manifest.split(split).shards, start, stop))

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of pixels."""
        return sum(part.stop - part.start for part in self._slices) * self._row_bytes

    def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
        """One task per shard: a shard is read whole, to check its digest."""
        del parallelism
        return [ReadTask(_reader(self._dataset_uri, part), self._metadata(part)) for part in self._slices]

    def _metadata(self, part: ShardSlice) -> BlockMetadata:
        rows = part.stop - part.start
        return BlockMetadata(
            num_rows=rows, size_bytes=rows * self._row_bytes, input_files=[part.shard.name], exec_stats=None
        )


def build_dataset(
    dataset_uri: str, manifest: Manifest, split: str, start: int = 0, stop: int | None = None
) -> Dataset:
    """A Ray Dataset of the rows [start, stop) of a split, in order, with their shard's index as a column."""
    stop = manifest.split(split).rows if stop is None else stop
    _quiet(DataContext.get_current())
    return ray.data.read_datasource(ShardDatasource(dataset_uri, manifest, split, start, stop))


class RowRangeConfig(DataConfig):  # type: ignore[misc]
    """Gives each Ray Train worker the contiguous rows that its lanes of the global batch own."""

    def __init__(
        self, dataset_uri: str, manifest: Manifest, split: str, validation_fraction: float, batch_size: int
    ) -> None:
        super().__init__()
        self._dataset_uri = dataset_uri
        self._manifest = manifest
        self._split = split
        self._validation_fraction = validation_fraction
        self._batch_size = batch_size

    def configure(
        self,
        datasets: dict[str, Dataset],
        world_size: int,
        worker_handles: Any,
        worker_node_ids: Any,
        **_: object,
    ) -> list[dict[str, DataIterator]]:
        """One iterator per worker, by rank; each worker reads its own."""
        del datasets, worker_handles, worker_node_ids
        num_rows = self._manifest.split(self._split).rows
        ranges = split_rows(num_rows, self._validation_fraction, self._batch_size, world_size)
        return [
            {
                TRAIN_SHARD: build_dataset(
                    self._dataset_uri, self._manifest, self._split, rows.start, rows.stop
                ).iterator()
            }
            for rows in ranges
        ]


def read_all(iterator: DataIterator, image_shape: tuple[int, int, int]) -> Rows:
    """Reads a worker's Dataset once, into memory.

    Raises:
        DatasetError: a shard's bytes do not match the manifest.
    """
    _quiet(DataContext.get_current())
    tables = list(iterator.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2))
    return table_to_rows(pa.concat_tables(tables), image_shape)


def _reader(dataset_uri: str, part: ShardSlice) -> Callable[[], Iterable[pa.Table]]:
    def read() -> Iterator[pa.Table]:
        table = decode_shard(read_shard(dataset_uri, part.shard), part.shard.name)
        rows = table.slice(part.start, part.stop - part.start)
        yield rows.append_column(SHARD_INDEX, pa.repeat(pa.scalar(part.shard_index, pa.int32()), len(rows)))

    return read


def _quiet(context: DataContext) -> None:
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
