"""Rows survive Parquet pixel by pixel; bytes that are not a shard are refused."""

from __future__ import annotations

import hashlib
import io
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.dataset.record import (
    Rows,
    decode_shard,
    encode_shard,
    images_to_numpy,
    row_schema,
    rows_to_table,
    table_to_rows,
)
from cnnlib.errors import DatasetError
from cnnlib.shapes import ImageShape


def make_rows(count: int, shape: ImageShape = (3, 4, 1)) -> Rows:
    rng = np.random.default_rng(count)
    return Rows(
        ids=np.arange(count, dtype=np.int64),
        images=rng.integers(0, 256, (count, *shape), np.uint8),
        labels=rng.integers(0, 10, count).astype(np.int32),
    )


def assert_same(rows: Rows, expected: Rows) -> None:
    for name in ("ids", "images", "labels"):
        have, want = getattr(rows, name), getattr(expected, name)
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("shape", [(28, 28, 1), (4, 5, 3), (1, 1, 1)])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_rows_survive_a_shard(shape: ImageShape, count: int) -> None:
    rows = make_rows(count, shape)
    assert_same(table_to_rows(decode_shard(encode_shard(rows), "shard"), shape), rows)


def test_a_shard_has_the_columns_and_types_that_were_promised() -> None:
    table = decode_shard(encode_shard(make_rows(3, (3, 4, 2))), "shard")
    assert table.schema.equals(row_schema((3, 4, 2)), check_metadata=True)
    assert [(field.name, str(field.type), field.nullable) for field in table.schema] == [
        ("id", "int64", False),
        ("image", "fixed_size_binary[24]", False),
        ("label", "int32", False),
    ]
    assert table.schema.metadata == {b"cnnlib.image_shape": b"[3, 4, 2]"}


def test_same_rows_give_the_same_bytes() -> None:
    assert encode_shard(make_rows(20)) == encode_shard(make_rows(20))


@pytest.mark.skipif(pa.__version__ != "26.0.1", reason="a Parquet file states the version of pyarrow")
def test_a_shard_has_the_bytes_that_it_always_had() -> None:
    # A shard's sha256 is part of its dataset's fingerprint, and so of the name of every report.
    rows = Rows(
        ids=np.arange(100, 150),
        images=(np.arange(50 * 6 * 5 * 3) % 251).astype(np.uint8).reshape(50, 6, 5, 3),
        labels=(np.arange(50) % 10).astype(np.int32),
        metadata={
            "source": pa.array([["web", "camera", None][index % 3] for index in range(50)]),
            "angle": pa.array([index / 8 for index in range(50)]),
        },
    )
    digest = hashlib.sha256(encode_shard(rows)).hexdigest()
    assert digest == "ab3854dcb68e9b1544197f537f60b4be96593ebea0c04c4613cb5ba315340ce1"


def test_rows_become_a_table_without_a_copy_of_the_pixels() -> None:
    rows = make_rows(5)
    (chunk,) = rows_to_table(rows).column("image").chunks
    assert chunk.buffers()[1].address == rows.images.ctypes.data


def test_images_that_are_not_contiguous_keep_their_pixels() -> None:
    rows = make_rows(6)
    every_other = Rows(ids=rows.ids[::2], images=rows.images[::2, ::-1], labels=rows.labels[::2])
    assert_same(table_to_rows(rows_to_table(every_other), (3, 4, 1)), every_other)


@pytest.mark.parametrize("labels", [np.array([0, 2**32 + 1]), np.array([0.0, 1.5])])
def test_labels_that_a_cast_would_change_are_refused(labels: np.ndarray) -> None:
    rows = make_rows(2)
    with pytest.raises(TypeError):
        rows_to_table(Rows(ids=rows.ids, images=rows.images, labels=labels))


@given(cuts=st.lists(st.integers(0, 12), max_size=4), start=st.integers(0, 12), length=st.integers(0, 12))
def test_any_range_of_a_table_in_arrow_chunks_gives_the_pixels_of_its_rows(
    cuts: list[int], start: int, length: int
) -> None:
    rows = make_rows(12)
    whole = rows_to_table(rows)
    bounds = [0, *sorted(cuts), 12]
    chunked = pa.concat_tables([whole.slice(low, high - low) for low, high in itertools.pairwise(bounds)])
    some = chunked.slice(start, length)
    np.testing.assert_array_equal(
        images_to_numpy(some.column("image"), (3, 4, 1)), rows.images[start : start + length]
    )


def test_metadata_columns_come_after_id_image_and_label() -> None:
    table = rows_to_table(make_rows(2)).add_column(0, "camera", pa.array(["a", "b"]))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    decoded = decode_shard(sink.getvalue(), "shard")
    assert decoded.column_names == ["id", "image", "label", "camera"]
    assert decoded.column("camera").to_pylist() == ["a", "b"]


def _without(column: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows_to_table(make_rows(2)).drop_columns([column]), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"not Parquet at all", encode_shard(make_rows(9))[:-20], _without("image"), _without("id")],
    ids=["empty", "text", "cut off", "no image", "no id"],
)
def test_bytes_that_are_not_a_shard_are_refused_with_its_name(data: bytes) -> None:
    with pytest.raises(DatasetError, match=r"train/part-00003\.parquet is not a shard") as raised:
        decode_shard(data, "train/part-00003.parquet")
    assert "Expected the columns id, image, label" in str(raised.value)
