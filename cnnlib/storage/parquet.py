"""Arrow tables as Parquet bytes, and back. The same table gives the same bytes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def parquet_table(data: bytes) -> pa.Table:
    """The table out of Parquet bytes."""
    # Not pq.read_table: it loads pyarrow.dataset and with it pandas, a second of start-up for a small table.
    return pq.ParquetFile(pa.BufferReader(data)).read()
