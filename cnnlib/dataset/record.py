"""Converts rows of a dataset between NumPy arrays in memory and Parquet shards.

The columns of a shard are `id` int64, `image` fixed_size_binary[height * width * channels] (uint8, row-major, channels
last), `label` int32, then the metadata columns of the source. The schema's metadata and the manifest state the image
shape. In a dataset that keeps image files, `image` is binary: a JPEG or PNG file, and the schema's metadata and the
manifest state how it becomes pixels (encoding.py). `decode_shard` returns pixels in either case.

Images are a fixed-size binary because Parquet copies it as a whole, but encodes a `fixed_shape_tensor` value by
value: for 60,000 images of 28x28 the binary takes 0.1 s against 1.7 s to read and 0.2 s against 1.4-3.1 s to write,
at the same size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cnnlib.dataset.decode import decode_image
from cnnlib.dataset.encoding import ImageEncoding
from cnnlib.dataset.streamed import BadImageError
from cnnlib.errors import DatasetError
from cnnlib.shapes import ImageShape
from cnnlib.storage.parquet import parquet_bytes
from cnnlib.storage.threads import DECODE_THREADS, map_threads

ID, IMAGE, LABEL = "id", "image", "label"
SHARD_INDEX = "shard_index"
"""The column that an evaluation adds after reading: the index of a row's shard in its split."""
SHARD_ERROR = "shard_error"
"""The only column of a block in place of the rows of a shard that cannot be read: the pickled error."""
_SHAPE_KEY = b"cnnlib.image_shape"
_ENCODING_KEY = b"cnnlib.encoding"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Holds some rows of one split.

    Attributes:
        ids: int64 [rows], unique in the split.
        images: uint8 [rows, height, width, channels].
        labels: int32 [rows].
        metadata: the metadata columns by name, each with one value per row.
    """

    ids: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    metadata: Mapping[str, pa.Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, stop: int) -> Rows:
        """Returns the rows [start, stop) without a copy, without metadata."""
        return Rows(ids=self.ids[start:stop], images=self.images[start:stop], labels=self.labels[start:stop])

    def take(self, indexes: npt.NDArray[np.int64]) -> Rows:
        """Returns a copy of the rows at these indexes, in their order."""
        return Rows(
            ids=self.ids[indexes],
            images=self.images[indexes],
            labels=self.labels[indexes],
            metadata={name: values.take(pa.array(indexes)) for name, values in self.metadata.items()},
        )


def row_schema(image_shape: ImageShape) -> pa.Schema:
    """Returns the Arrow schema of a shard without metadata columns."""
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
    """Converts rows to an Arrow table: the columns of `row_schema`, then the metadata. It does not copy pixels.

    Raises:
        TypeError: ids do not fit into int64, or labels into int32.
    """
    schema = row_schema(rows.images.shape[1:])
    # Cast first: `_wrap` passes a bare buffer, which has no type of its own.
    ids, labels = rows.ids.astype(np.int64, casting="safe"), rows.labels.astype(np.int32, casting="safe")
    table = pa.table(
        [_wrap(ids, pa.int64()), _wrap(rows.images, schema.field(IMAGE).type), _wrap(labels, pa.int32())],
        schema=schema,
    )
    for name, values in rows.metadata.items():
        table = table.append_column(name, values)
    return table


def table_to_rows(table: pa.Table, image_shape: ImageShape) -> Rows:
    """Converts a table of `decode_shard`, or some of its rows, to arrays.

    It copies only columns that consist of several Arrow chunks.
    """
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
    """Converts an image column to uint8 [rows, height, width, channels].

    Raises:
        DatasetError: the images have another number of bytes than `image_shape`.
    """
    size = int(np.prod(image_shape))
    if column.type != pa.binary(size):
        raise DatasetError(
            f"A shard's images do not match the image shape. Received the type {column.type}, expected {size} bytes "
            f"per image of the shape {image_shape}."
        )
    chunks = [_chunk_to_numpy(chunk, size) for chunk in column.chunks if len(chunk)]
    flat = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty((0, size), np.uint8), *chunks])
    return flat.reshape(-1, *image_shape)


def is_shard(schema: pa.Schema) -> bool:
    """Returns whether a Parquet file of this schema is a shard of a dataset."""
    return _SHAPE_KEY in (schema.metadata or {})


def encode_shard(rows: Rows) -> bytes:
    """Encodes rows as one Parquet file."""
    # Images hardly ever repeat: a dictionary of them would cost time and save no bytes.
    return parquet_bytes(rows_to_table(rows), use_dictionary=False)


def encode_file_shard(
    ids: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int32],
    image_files: Sequence[bytes],
    metadata: Mapping[str, pa.Array],
    *,
    image_shape: ImageShape,
    encoding: ImageEncoding,
) -> bytes:
    """Encodes rows as one Parquet file that keeps the image files.

    Args:
        ids: int64 [rows].
        labels: int32 [rows].
        image_files: the stored bytes of each image.
        metadata: the metadata columns by name.
        image_shape: what every file becomes.
        encoding: by what rules.
    """
    schema = row_schema(image_shape)
    schema = schema.set(schema.get_field_index(IMAGE), pa.field(IMAGE, pa.binary(), nullable=False))
    described = json.dumps(encoding.to_document(), sort_keys=True).encode()
    schema = schema.with_metadata({**schema.metadata, _ENCODING_KEY: described})
    table = pa.table(
        [_wrap(ids, pa.int64()), pa.array(image_files, pa.binary()), _wrap(labels, pa.int32())], schema=schema
    )
    for name, values in metadata.items():
        table = table.append_column(name, values)
    return parquet_bytes(table, use_dictionary=False)


def open_shard(data: bytes | pa.Buffer, name: str) -> pa.Table:
    """Opens a shard as an Arrow table, with the images as they are stored: see `file_encoding`.

    Args:
        data: the whole Parquet file.
        name: the shard's name, for the error message.

    Raises:
        DatasetError: the bytes are not a Parquet file with the columns of a shard.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        others = [name for name in table.column_names if name not in (ID, IMAGE, LABEL)]
        return table.select([ID, IMAGE, LABEL, *others])
    except (pa.ArrowInvalid, KeyError, OSError) as err:
        raise _no_shard(name, err) from err


def file_encoding(table: pa.Table) -> ImageEncoding | None:
    """Returns how the image files of an opened shard become pixels; None if it holds pixels."""
    described = (table.schema.metadata or {}).get(_ENCODING_KEY)
    return None if described is None else ImageEncoding.from_document(json.loads(described))


def decode_shard(data: bytes | pa.Buffer, name: str, threads: int = DECODE_THREADS) -> pa.Table:
    """Decodes a shard to an Arrow table: the columns of `row_schema`, with pixels as images, then the metadata.

    Args:
        data: the whole Parquet file.
        name: the shard's name, for the error message.
        threads: that decode image files.

    Raises:
        DatasetError: the bytes are not a Parquet file with these columns, or an image file is damaged.
    """
    table = open_shard(data, name)
    encoding = file_encoding(table)
    return table if encoding is None else _to_pixels(table, encoding, name, threads)


def decode_file(
    decode: Callable[[], npt.NDArray[np.uint8]], image_shape: ImageShape, shard_name: str, row: object
) -> npt.NDArray[np.uint8]:
    """Returns the pixels of a row's image file, uint8 [height, width, channels].

    Args:
        decode: decodes the file.
        row: the row's id, for the error message.

    Raises:
        DatasetError: the file is damaged, or gives an image of another shape.
    """
    try:
        pixels = decode()
        problem = (
            "" if pixels.shape == image_shape else f"its shape is {pixels.shape}, expected {image_shape}"
        )
    except BadImageError as err:
        problem = str(err)
    if problem:
        raise DatasetError(
            f"{shard_name}: the image file of the row {row} cannot be read: {problem}. Prepare the dataset again."
        )
    return pixels


def _to_pixels(table: pa.Table, encoding: ImageEncoding, name: str, threads: int) -> pa.Table:
    """Replaces image files by pixels."""
    height, width, channels = json.loads(table.schema.metadata[_SHAPE_KEY])
    files = table.column(IMAGE)
    pixels = np.empty((len(table), height, width, channels), np.uint8)

    def decode(index: int) -> None:
        data = files[index].as_py()
        pixels[index] = decode_file(
            lambda: decode_image(data, encoding.rules), pixels.shape[1:], name, table.column(ID)[index]
        )

    map_threads(decode, range(len(table)), threads=threads)
    schema = row_schema((height, width, channels))
    place, kind = table.schema.get_field_index(IMAGE), schema.field(IMAGE)
    return table.set_column(place, kind, _wrap(pixels, kind.type)).replace_schema_metadata(schema.metadata)


def decode_labels(data: bytes, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Decodes the ids and labels of a shard: int64 [rows] and int32 [rows].

    Args:
        data: the whole Parquet file.
        name: the shard's name, for the error message.

    Raises:
        DatasetError: the bytes are not a Parquet file with these columns.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(columns=[ID, LABEL])
        ids, labels = table.column(ID).to_numpy(), table.column(LABEL).to_numpy()
    except (pa.ArrowInvalid, KeyError, OSError) as err:
        raise _no_shard(name, err) from err
    return ids.astype(np.int64, copy=False), labels.astype(np.int32, copy=False)


def _no_shard(name: str, err: Exception) -> DatasetError:
    return DatasetError(f"{name} is not a shard of a dataset: {err}. Expected the columns id, image, label.")


def _wrap(values: npt.NDArray[np.integer], kind: pa.DataType) -> pa.Array:
    # Not `pa.array`: it imports pandas, to check whether the array is one of pandas', which takes longer than writing
    # a shard.
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _chunk_to_numpy(chunk: pa.FixedSizeBinaryArray, size: int) -> npt.NDArray[np.uint8]:
    pixels = np.frombuffer(chunk.buffers()[1], np.uint8)
    return pixels[chunk.offset * size : (chunk.offset + len(chunk)) * size].reshape(-1, size)
