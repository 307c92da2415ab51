"""Reads one block of a stream: the rows that a worker takes of one shard, decoded and cropped, in the order of need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.decode import decode_image
from cnnlib.dataset.manifest import Shard
from cnnlib.dataset.reader import open_checked_shard
from cnnlib.dataset.record import ID, IMAGE, LABEL, Rows, decode_file, file_encoding, images_to_numpy
from cnnlib.feed.crop import crop_file, crop_pixels
from cnnlib.feed.feed import FeedTask
from cnnlib.feed.stream_plan import PlannedRead
from cnnlib.shapes import ImageShape


@dataclass(frozen=True, kw_only=True)
class BlockReader:
    """What every read of a stream has in common.

    Attributes:
        min_crop_area: see `TrainConfig`; 1: rows are not cropped.
    """

    dataset_uri: str
    image_shape: ImageShape
    seed: int
    min_crop_area: float

    @classmethod
    def of(cls, task: FeedTask) -> BlockReader:
        """Returns the reader for the blocks of a task."""
        return cls(
            dataset_uri=task.dataset_uri,
            image_shape=task.manifest.image_shape,
            seed=task.seed,
            min_crop_area=task.min_crop_area,
        )

    def __call__(self, read: PlannedRead) -> Rows:
        """Reads the rows of a block.

        Raises:
            DatasetError: the shard is missing, its bytes do not match the manifest, or an image is damaged.
            RowCountError: the shard has another number of rows than the manifest states.
        """
        shard = read.shard_range.shard
        table = open_checked_shard(self.dataset_uri, shard)
        ids = table.column(ID).to_numpy()[read.rows].astype(np.int64, copy=False)
        labels = table.column(LABEL).to_numpy()[read.rows].astype(np.int32, copy=False)
        epoch = read.epoch if self.min_crop_area < 1 else None
        if file_encoding(table) is None:
            images = images_to_numpy(table.column(IMAGE), self.image_shape)[read.rows]
            if epoch is not None:
                for index, row in enumerate(ids.tolist()):
                    images[index] = crop_pixels(
                        images[index], min_area=self.min_crop_area, seed=self.seed, epoch=epoch, row_id=row
                    )
        else:
            images = self._decode(table, read.rows, ids, shard, epoch)
        return Rows(ids=ids, images=images, labels=labels)

    def _decode(
        self,
        table: pa.Table,
        rows: npt.NDArray[np.int64],
        ids: npt.NDArray[np.int64],
        shard: Shard,
        epoch: int | None,
    ) -> npt.NDArray[np.uint8]:
        encoding = file_encoding(table)
        assert encoding is not None
        files = table.column(IMAGE)

        def decode(data: bytes, row: int) -> npt.NDArray[np.uint8]:
            if epoch is None:
                return decode_image(data, encoding.rules)
            return crop_file(
                data,
                encoding,
                self.image_shape,
                min_area=self.min_crop_area,
                seed=self.seed,
                epoch=epoch,
                row_id=row,
            )

        images = np.empty((len(rows), *self.image_shape), np.uint8)
        for index, (place, row) in enumerate(zip(rows.tolist(), ids.tolist(), strict=True)):
            data = files[place].as_py()
            images[index] = decode_file(partial(decode, data, row), self.image_shape, shard.name, row)
        return images
