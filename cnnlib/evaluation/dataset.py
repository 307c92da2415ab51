"""Manifest in, a Ray Dataset of the rows of a split out, which the predictors score.

A read task reads one shard, checks its bytes against the manifest and yields its rows. Every row comes exactly once.
That is why this file does not use `streaming_split(equal=True)`, which drops rows and gives a block to the consumer
that asks first (https://github.com/ray-project/ray/issues/63285). Training reads its rows through `cnnlib.feed`.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata

from cnnlib.dataset.manifest import Manifest, Shard
from cnnlib.dataset.reader import read_shard
from cnnlib.dataset.record import SHARD_ERROR, SHARD_INDEX, decode_shard
from cnnlib.errors import CnnlibError
from cnnlib.evaluation.ray_data import quiet_ray_data


class ShardDatasource(Datasource):  # type: ignore[misc]
    """Reads the rows of a split, with one read task per shard, in the order of the manifest."""

    def __init__(self, dataset_uri: str, manifest: Manifest, split: str) -> None:
        super().__init__()
        self._dataset_uri = dataset_uri
        self._row_bytes = math.prod(manifest.image_shape)
        self._shards = manifest.split(split).shards

    def estimate_inmemory_data_size(self) -> int:
        """Returns the bytes of all pixels."""
        return sum(shard.rows for shard in self._shards) * self._row_bytes

    def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
        """Returns one task per shard. A shard is read whole, because its digest is checked."""
        del parallelism
        return [
            ReadTask(_reader(self._dataset_uri, shard, index), self._metadata(shard))
            for index, shard in enumerate(self._shards)
        ]

    def _metadata(self, shard: Shard) -> BlockMetadata:
        return BlockMetadata(
            num_rows=shard.rows,
            size_bytes=shard.rows * self._row_bytes,
            input_files=[shard.name],
            exec_stats=None,
        )


def build_dataset(dataset_uri: str, manifest: Manifest, split: str) -> Dataset:
    """Builds a Ray Dataset of the rows of a split, in order. A column holds the index of each row's shard."""
    quiet_ray_data()
    DataContext.get_current().execution_options.preserve_order = True
    return ray.data.read_datasource(ShardDatasource(dataset_uri, manifest, split))


def _reader(dataset_uri: str, shard: Shard, index: int) -> Callable[[], Iterable[pa.Table]]:
    def read() -> Iterator[pa.Table]:
        try:
            table = decode_shard(read_shard(dataset_uri, shard), shard.name)
        except CnnlibError as err:
            # A value, because Ray Data loses the cause of an exception on the way to the driver.
            yield pa.table({SHARD_ERROR: [pickle.dumps(err)]})
            return
        yield table.append_column(SHARD_INDEX, pa.repeat(pa.scalar(index, pa.int32()), len(table)))

    return read
