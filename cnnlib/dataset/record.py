"""A row of a data set, as bytes in Parquet and as NumPy arrays in memory.

On disk: `id` int64, `image` fixed_size_binary[height * width * channels] (uint8, row-major, channels last),
`label` int32, then the source's metadata columns. The image shape is in the schema's metadata and in the
manifest. A fixed-size binary is copied whole where Parquet encodes a `fixed_shape_tensor` value by value:
for 60,000 images of 28x28 that is 0.1 s against 1.7 s to read, 0.2 s against 1.4-3.1 s to write, at the same size.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cnnlib.errors import DatasetError
from cnnlib.shapes import ImageShape

ID, IMAGE, LABEL = "id", "image", "label"
SHARD_INDEX = "shard_index"
"""A column that readers add: the index of the row's shard in its split."""
_SHAPE_KEY = b"cnnlib.image_shape"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of one split.

    Attributes:
        ids: int64 [rows], unique in the split.
        images: uint8 [rows, height, width, channels].
        labels: int32 [rows].
        metadata: the other columns by name, each of as many values as there are rows.
    """

    ids: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    metadata: Mapping[str, pa.Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indexes: npt.NDArray[np.int64]) -> Rows:
        """Some of the rows, copied, in the order of the indexes."""
        return Rows(
            ids=self.ids[indexes],
            images=self.images[indexes],
            labels=self.labels[indexes],
            metadata={name: values.take(pa.array(indexes)) for name, values in self.metadata.items()},
        )


def row_schema(image_shape: ImageShape) -> pa.Schema:
    """The Arrow schema of a shard without metadata whose images have this shape (height, width, channels)."""
    height, width, channels = image_shape
    return pa.schema(
        [
            pa.field(ID, pa.int64(), nullable=False),
            pa.field(IMAGE, pa.binary(height * width * channels), nullable=False),
            pa.field(LABEL, pa.int32(), nullable=False),
        ],
        metadata={_SHAPE_KEY: json.dumps(list(image_shape)).encode()},
    )


def rows_to_table(rows: Rows) -> pa.Table:
    """Rows as an Arrow table of `row_schema`, the metadata columns after it, without copying pixels.

    Raises:
        TypeError: ids or labels of a type that does not fit into int64 or int32.
    """
    schema = row_schema(rows.images.shape[1:])
    # Cast here: a buffer says nothing of what is in it.
    ids, labels = rows.ids.astype(np.int64, casting="safe"), rows.labels.astype(np.int32, casting="safe")
    table = pa.table(
        [_wrap(ids, pa.int64()), _wrap(rows.images, schema.field(IMAGE).type), _wrap(labels, pa.int32())],
        schema=schema,
    )
    for name, values in rows.metadata.items():
        table = table.append_column(name, values)
    return table


def table_to_rows(table: pa.Table, image_shape: ImageShape) -> Rows:
    """A table that `decode_shard` gave, or a part of it, as arrays; copies only where it has several chunks."""
    return Rows(
        ids=table.column(ID).to_numpy().astype(np.int64, copy=False),
        images=images_to_numpy(table.column(IMAGE), image_shape),
        labels=table.column(LABEL).to_numpy().astype(np.int32, copy=False),
        metadata={
            name: table.column(name).combine_chunks()
            for name in table.column_names
            if name not in (ID, IMAGE, LABEL, SHARD_INDEX)
        },
    )


def images_to_numpy(column: pa.ChunkedArray, image_shape: ImageShape) -> npt.NDArray[np.uint8]:
    """The image column as uint8 [rows, height, width, channels].

    Raises:
        DatasetError: its images have another number of bytes.
    """
    size = int(np.prod(image_shape))
    if column.type != pa.binary(size):
        raise DatasetError(
            f"A shard's images are {column.type}. Expected {size} bytes each, the shape {image_shape}."
        )
    chunks = [_chunk_to_numpy(chunk, size) for chunk in column.chunks if len(chunk)]
    flat = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty((0, size), np.uint8), *chunks])
    return flat.reshape(-1, *image_shape)


def encode_shard(rows: Rows) -> bytes:
    """Rows as one Parquet file."""
    sink = io.BytesIO()
    pq.write_table(rows_to_table(rows), sink, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def decode_shard(data: bytes | pa.Buffer, name: str) -> pa.Table:
    """Parses a shard's bytes into a table of `row_schema`, its metadata columns after it.

    Args:
        data: the whole Parquet file.
        name: the shard's name, for the error.

    Raises:
        DatasetError: the bytes are not a Parquet file with these columns.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        return table.select(
            [ID, IMAGE, LABEL, *(c for c in table.column_names if c not in (ID, IMAGE, LABEL))]
        )
    except (pa.ArrowInvalid, KeyError, OSError) as err:
        raise DatasetError(
            f"{name} is not a shard of a data set: {err}. Expected the columns id, image, label."
        ) from err


def _wrap(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    # `pa.array` imports pandas, to see whether the array is one of pandas': longer than a shard takes to write.
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _chunk_to_numpy(chunk: Any, size: int) -> npt.NDArray[np.uint8]:
    pixels = np.frombuffer(chunk.buffers()[1], np.uint8)
    return pixels[chunk.offset * size : (chunk.offset + len(chunk)) * size].reshape(-1, size)
