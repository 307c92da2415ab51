"""Arrow tables as Parquet bytes, and back. The same table gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table that this project writes.

    Attributes:
        doc: what a value means, with its unit; where the column is nullable, also what null means.
    """

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False


def parquet_bytes(table: pa.Table, *, use_dictionary: bool = True) -> bytes:
    """A table as Parquet; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=use_dictionary)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def parquet_table(data: bytes) -> pa.Table:
    """The table out of Parquet bytes."""
    # Not pq.read_table: it loads pyarrow.dataset and with it pandas, a second of start-up for a small table.
    return pq.ParquetFile(pa.BufferReader(data)).read()
