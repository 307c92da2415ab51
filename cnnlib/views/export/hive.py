"""The report tables as Hive, and so Athena, Glue and Spark, know them: Arrow types in, `CREATE EXTERNAL TABLE` out.

https://docs.aws.amazon.com/athena/latest/ug/create-table.html, https://docs.aws.amazon.com/athena/latest/ug/data-types.html
"""

from __future__ import annotations

import pyarrow as pa

from cnnlib.reports.schema import COLUMNS
from cnnlib.storage.parquet import Column

LOCATION = "s3://BUCKET/REPORTS"

PARTITION = "report_id"
"""The column of `predictions` that is the name of a folder and in none of its files."""

# A `timestamp` of Hive has no time zone; the stored values are microseconds since 1970 in UTC, and are shown as such.
_TYPES = {
    pa.string(): "string",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.timestamp("us", tz="UTC"): "timestamp",
}


def hive_type(kind: pa.DataType) -> str:
    """The Hive type that reads an Arrow type out of Parquet.

    >>> hive_type(pa.list_(pa.float32()))
    'array<float>'
    """
    if pa.types.is_list(kind):
        return f"array<{hive_type(kind.value_type)}>"
    return _TYPES[kind]


def create_table(table: str, location: str = LOCATION) -> str:
    """The statement that lets Athena read a report table.

    Args:
        table: its name, as in `COLUMNS`.
        location: URI of the folder of all reports.
    """
    columns = ",\n".join(map(_define, COLUMNS[table]))
    lines = [f"CREATE EXTERNAL TABLE `{table}` (", columns, ")"]
    properties = {}
    if table == "predictions":
        lines.append(f"PARTITIONED BY (`{PARTITION}` string)")
        # The id comes from the query: no partition is ever registered, and none is forgotten.
        properties = {"projection.enabled": "true", f"projection.{PARTITION}.type": "injected"}
    lines += ["STORED AS PARQUET", f"LOCATION '{location}/{table}/'"]
    if properties:
        listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
        lines.append(f"TBLPROPERTIES ({listed})")
    return "\n".join(lines) + ";\n"


def _define(column: Column) -> str:
    # Every name in backticks: some, such as `true`, `map` and `values`, are words of the language.
    return f"  `{column.name}` {hive_type(column.type)}"
