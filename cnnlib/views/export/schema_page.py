"""The report schema as a page for people: python -m cnnlib.views.export.schema_page > docs/report-schema.md.

Everything that the schema knows comes from the schema; a test fails where the committed page is another one.
"""

from __future__ import annotations

import sys

import pyarrow as pa

from cnnlib.reports.schema import COLUMNS, REPORT_VERSION
from cnnlib.storage.parquet import Column
from cnnlib.views.export.hive import create_table

_TABLES = {
    "overall": "One row per report, and one per slice of it: the figures of all classes together.",
    "per_class": "One row per report and class, and one per slice and class.",
    "confusion": "One row per report and pair of classes.",
    "calibration": "One row per report, class and bin of predicted probability: the reliability diagram.",
    "activations": "One row per report and picture: an example image, the first kernels, the maps of the layers.",
    "predictions": "One row per report and row of the split, unless the evaluation ran with `--no-predictions`.",
    "gates": "One row per check of a gate; a report may have been through several gates, or none.",
}

_HEAD = f"""# The tables of a report

Made from the code by `python -m cnnlib.views.export.schema_page > docs/report-schema.md`.
Report version {REPORT_VERSION}.

A folder of reports is a set of tables. Each report adds one Parquet file to each table, and none is ever changed, so
the folder is the history: every engine that reads a folder of Parquet reads all reports as one table.

```
REPORTS/overall/ID.parquet          per_class/, confusion/, calibration/, activations/ likewise
REPORTS/predictions/report_id=ID/part-SHARD-ROW.parquet
REPORTS/gates/ID-DIGEST.parquet
REPORTS/manifests/ID.json           no table: the report's index, with the sha256 of its files
REPORTS/claims/ID.zip               no table: all files of a report in one, so that a crash leaves all or nothing
REPORTS/pages/ID.html, index.html   no table: the reports as pages
```

Point an engine at one table's folder, never at `REPORTS`. A manifest is written last. What has none yet belongs to an
evaluation that is being written, or was stopped: the rows in the tables are final all the same, but for `predictions`,
where a part of them may be missing. `select` from `predictions` where the id is one of `overall`.

## What holds in every table

- **Versions.** The file's metadata says `cnnlib.report_version`. It rises with every change that a reader could notice:
  a column that is new, gone, renamed, of another type or of another meaning. It is part of the report's id, so what an
  older version wrote stays as it is, and the same evaluation with a newer one is a new report beside it. A reader finds
  columns by name; a column that a file is too old for is null.
- **Null** means that there is no such number, never 0. Each column says when. An interval is null where its figure is;
  a bootstrap interval is null in a slice too.
- **Slices.** `slice` is null for the whole split: put `where slice is null` into every query that is not about slices,
  or each row is counted again for each slice that it is in.
- **Intervals** are two-sided, at 95 %: Wilson's for a share of rows, bootstrap with a fixed seed for the others.
- **Times** are UTC.
- `report_id` joins the tables.
"""

_READING = """## Reading

pandas, from a disk or from S3 (with `s3fs`; `storage_options` names another endpoint). It takes the columns of the
first file for those of all: where versions are mixed, take polars or DuckDB.

```python
import pandas as pd

classes = pd.read_parquet("REPORTS/per_class")
classes = classes[classes["slice"].isna()]
predictions = pd.read_parquet("REPORTS/predictions", filters=[("report_id", "==", "0123456789abcdef")])
```

polars:

```python
import polars as pl

classes = pl.scan_parquet("REPORTS/per_class/*.parquet", missing_columns="insert")
classes = classes.filter(pl.col("slice").is_null())
options = {"aws_endpoint_url": "http://localhost:8333", "aws_allow_http": "true"}  # not needed on AWS
overall = pl.scan_parquet("s3://BUCKET/REPORTS/overall/*.parquet", storage_options=options)
predictions = pl.scan_parquet(
    "REPORTS/predictions/**/*.parquet", hive_partitioning=True, hive_schema={"report_id": pl.String}
)
```

DuckDB (for `s3://`: `install httpfs; load httpfs; create secret (type s3, provider credential_chain);`):

```sql
select class_name, accuracy, accuracy_low, accuracy_high
from read_parquet('REPORTS/per_class/*.parquet', union_by_name = true) where slice is null order by accuracy;

-- The surest mistakes of a report. The type is named, or an id of digits alone would be taken for a number.
select id, label, prediction, probability
from read_parquet('REPORTS/predictions/*/*.parquet', hive_partitioning = true, hive_types = {'report_id': varchar})
where report_id = '0123456789abcdef' and label <> prediction order by probability desc limit 20;
```

pyarrow:

```python
import pyarrow as pa
import pyarrow.dataset as ds

by_report = ds.partitioning(pa.schema([("report_id", pa.string())]), flavor="hive")
predictions = ds.dataset("REPORTS/predictions", partitioning=by_report)
wrong = ds.field("label") != ds.field("prediction")
mistakes = predictions.to_table(filter=wrong & (ds.field("report_id") == "0123456789abcdef"))
```

Spark:

```python
classes = spark.read.option("mergeSchema", "true").parquet("s3a://BUCKET/REPORTS/per_class")
spark.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")  # ids stay strings
predictions = spark.read.parquet("s3a://BUCKET/REPORTS/predictions")
```

"""

_ATHENA = """## Athena and Glue

Put your own place for `s3://BUCKET/REPORTS`, and run each statement once: a new report needs no other. Athena finds
Parquet's columns by name, so files of older versions read as null in what they lack. A `timestamp` of Hive has no zone;
its values are UTC. Names that are words of SQL are quoted in a query: `select "true", "predicted" from confusion`.

`predictions` takes the report from the query (partition projection of the type `injected`), so a query must say which:
`where report_id = '0123456789abcdef'`, or `in (…)`. For a table over all reports leave out `TBLPROPERTIES`, and run
`MSCK REPAIR TABLE predictions` after new reports.

"""


def describe_schema() -> str:
    """The page, as Markdown."""
    return "".join(
        (
            _HEAD,
            *(_describe_table(table) for table in COLUMNS),
            "\n",
            _READING,
            _ATHENA,
            "\n".join(f"```sql\n{create_table(table)}```\n" for table in COLUMNS),
        )
    )


def _describe_table(table: str) -> str:
    rows = "".join(map(_describe_column, COLUMNS[table]))
    return f"\n## {table}\n\n{_TABLES[table]}\n\n| column | type | null | meaning |\n| --- | --- | --- | --- |\n{rows}"


def _describe_column(column: Column) -> str:
    meaning = column.doc.replace("|", "\\|")
    return f"| `{column.name}` | {_type_name(column.type)} | {'yes' if column.nullable else 'no'} | {meaning} |\n"


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return f"timestamp, {kind.unit}, {kind.tz}"
    return f"list of {_type_name(kind.value_type)}" if pa.types.is_list(kind) else str(kind)


if __name__ == "__main__":
    sys.stdout.write(describe_schema())
