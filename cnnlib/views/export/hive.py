"""Arrow schemas of the report tables in, `CREATE EXTERNAL TABLE` statements for Hive (Athena, Glue, Spark) out.

https://docs.aws.amazon.com/athena/latest/ug/create-table.html and
https://docs.aws.amazon.com/athena/latest/ug/data-types.html describe the statement and its types.
"""

from __future__ import annotations

import pyarrow as pa

from cnnlib.reports.schema import COLUMNS
from cnnlib.storage.parquet import Column

LOCATION = "s3://BUCKET/REPORTS"

PARTITION = "report_id"
"""The column of `predictions` that exists only as the name of a folder, not in the files."""

# A `timestamp` of Hive has no time zone: Hive shows the stored microseconds since 1970 as UTC.
_TYPES = {
    pa.string(): "string",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.timestamp("us", tz="UTC"): "timestamp",
}


def hive_type(kind: pa.DataType) -> str:
    """Returns the Hive type that reads an Arrow type from Parquet.

    >>> hive_type(pa.list_(pa.float32()))
    'array<float>'
    """
    if pa.types.is_list(kind):
        return f"array<{hive_type(kind.value_type)}>"
    return _TYPES[kind]


def create_table(table: str, location: str = LOCATION) -> str:
    """Returns the statement that defines a report table in Athena.

    Args:
        table: a key of `COLUMNS`.
        location: URI of the folder of all reports.
    """
    columns = ",\n".join(map(_define, COLUMNS[table]))
    lines = [f"CREATE EXTERNAL TABLE `{table}` (", columns, ")"]
    properties = {}
    if table == "predictions":
        lines.append(f"PARTITIONED BY (`{PARTITION}` string)")
        # The query states the id, so no partition needs to be registered.
        properties = {"projection.enabled": "true", f"projection.{PARTITION}.type": "injected"}
    lines += ["STORED AS PARQUET", f"LOCATION '{location}/{table}/'"]
    if properties:
        listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
        lines.append(f"TBLPROPERTIES ({listed})")
    return "\n".join(lines) + ";\n"


def _define(column: Column) -> str:
    # Every name in backticks: some, such as `true`, `map` and `values`, are keywords.
    return f"  `{column.name}` {hive_type(column.type)}"
