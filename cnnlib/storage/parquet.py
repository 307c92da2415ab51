"""Converts Arrow tables to Parquet bytes and back."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table that this project writes.

    Attributes:
        doc: what a value means, with its unit; for a nullable column also what null means.
    """

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False


def parquet_bytes(table: pa.Table, *, use_dictionary: bool = True) -> bytes:
    """Returns a table as Parquet; the same table always gives the same bytes.

    Args:
        use_dictionary: encode repeated values once. Images rarely repeat, so for them it only costs time.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=use_dictionary)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def parquet_table(data: bytes) -> pa.Table:
    """Returns the table in Parquet bytes."""
    # Not pq.read_table: it imports pyarrow.dataset and with it pandas, which costs a second of start-up.
    return pq.ParquetFile(pa.BufferReader(data)).read()
