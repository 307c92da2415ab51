"""The page about the schema matches the schema, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cnnlib.reports.schema import COLUMNS, table_schema
from cnnlib.storage import layout
from cnnlib.views.export.hive import create_table, hive_type
from cnnlib.views.export.schema_page import describe_schema

PAGE = Path(__file__).parents[4] / "docs" / "report-schema.md"
ID = "0123456789abcdef"
DIGITS = "0123456789012345"  # an id that looks like a number


def test_committed_page_is_what_the_code_makes() -> None:
    assert PAGE.read_text() == describe_schema(), (
        "Run: python -m cnnlib.views.export.schema_page > docs/report-schema.md"
    )


def test_page_lists_every_column_with_its_meaning() -> None:
    page = describe_schema()
    for table, columns in COLUMNS.items():
        section = page.split(f"\n## {table}\n")[1].split("\n## ")[0]
        rows = [row.split(" | ") for row in section.splitlines() if row.startswith("| `")]
        listed = [(name.strip("| `"), null, meaning.removesuffix(" |")) for name, _, null, meaning in rows]
        assert listed == [(column.name, "yes" if column.nullable else "no", column.doc) for column in columns]


# --- Athena ---

# The part of https://docs.aws.amazon.com/athena/latest/ug/create-table.html that these statements use.
NAME = r"`(?P<{}>[a-z][a-z0-9_]*)`"
TYPE = r"(?:string|int|bigint|float|double|timestamp|array<(?:string|int|bigint|float|double)>)"
COLUMN = rf"`[a-z][a-z0-9_]*` {TYPE}"
STATEMENT = re.compile(
    rf"CREATE EXTERNAL TABLE {NAME.format('table')} \("
    rf"(?P<columns>\n  {COLUMN}(?:,\n  {COLUMN})*)\n\)\n"
    rf"(?:PARTITIONED BY \((?P<partition>{COLUMN})\)\n)?"
    r"STORED AS PARQUET\n"
    r"LOCATION '(?P<location>s3://[^']+/)'"
    r"(?:\nTBLPROPERTIES \('[^']+' = '[^']+'(?:, '[^']+' = '[^']+')*\))?;\n"
)


@pytest.mark.parametrize("table", COLUMNS)
def test_statement_names_every_column_once_with_the_type_that_reads_it(table: str) -> None:
    statement = STATEMENT.fullmatch(create_table(table))
    assert statement
    columns = dict(re.findall(r"`(\w+)` (\S+?),?$", statement["columns"], re.MULTILINE))
    assert list(columns) == table_schema(table).names
    read_as = {
        "string": pa.string(),
        "int": pa.int32(),
        "bigint": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "array<int>": pa.list_(pa.int32()),
        "array<float>": pa.list_(pa.float32()),
        "array<string>": pa.list_(pa.string()),
    }
    assert [read_as[kind] for kind in columns.values()] == table_schema(table).types


def test_only_predictions_take_the_report_from_the_folder() -> None:
    partitions = {table: STATEMENT.fullmatch(create_table(table))["partition"] for table in COLUMNS}
    assert partitions.pop("predictions") == "`report_id` string"
    assert set(partitions.values()) == {None}
    for table in partitions:
        assert "report_id" in table_schema(table).names


def test_location_is_the_folder_that_the_writer_fills() -> None:
    for table in layout.REPORT_TABLES:
        location = STATEMENT.fullmatch(create_table(table, "s3://b/r"))["location"]
        assert layout.report_table("s3://b/r", table, ID).startswith(location)
    location = STATEMENT.fullmatch(create_table("predictions", "s3://b/r"))["location"]
    assert layout.report_predictions("s3://b/r", ID) == f"{location}report_id={ID}"
    assert STATEMENT.fullmatch(create_table("gates", "s3://b/r"))["location"] == "s3://b/r/gates/"


def test_type_without_a_counterpart_raises() -> None:
    with pytest.raises(KeyError):
        hive_type(pa.date32())


# --- the engines, with the page's examples ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Writes two reports: a class, a class in a slice; two predictions each, one of them wrong."""
    for report_id in (ID, DIGITS):
        for table in ("overall", "per_class"):
            rows = [make_row(table, report_id, None), make_row(table, report_id, "source=web")]
            store(
                pa.Table.from_pylist(rows, schema=table_schema(table)),
                layout.report_table(str(tmp_path), table, report_id),
            )
        predictions = [
            {
                "id": 0,
                "label": 1,
                "prediction": 1,
                "probability": 0.5,
                "top_classes": [1],
                "top_probabilities": [0.5],
            },
            {
                "id": 1,
                "label": 0,
                "prediction": 1,
                "probability": 0.75,
                "top_classes": [1],
                "top_probabilities": [0.75],
            },
        ]
        part = (
            f"{layout.report_predictions(str(tmp_path), report_id)}/{layout.predictions_part(0, 0, '0' * 64)}"
        )
        store(pa.Table.from_pylist(predictions, schema=table_schema("predictions")), part)
    return tmp_path


def make_row(table: str, report_id: str, part: str | None) -> dict[str, Any]:
    """Returns a row with a value in every column."""
    values = {"string": "x", "int32": 1, "int64": 1, "double": 0.5, "timestamp[us, tz=UTC]": 0}
    row = {column.name: values[str(column.type)] for column in COLUMNS[table]}
    return row | {"report_id": report_id, "slice": part}


def store(table: pa.Table, path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def snippets(language: str, folder: Path) -> list[str]:
    """Returns the page's examples in a language, for a folder."""
    code = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [each.replace("REPORTS/", f"{folder}/") for each in code]


def test_pandas_reads_as_the_page_says(folder: Path) -> None:
    found = run_python(next(each for each in snippets("python", folder) if "import pandas" in each))
    assert set(found["classes"]["report_id"]) == {ID, DIGITS}
    assert len(found["classes"]) == 2
    assert found["predictions"]["id"].tolist() == [0, 1]
    assert found["predictions"]["report_id"].astype(str).unique().tolist() == [ID]


def test_polars_reads_as_the_page_says(folder: Path) -> None:
    code = next(each for each in snippets("python", folder) if "import polars" in each)
    found = run_python(code)
    classes = found["classes"].collect()
    assert sorted(classes["report_id"]) == sorted([ID, DIGITS])
    assert classes["slice"].is_null().all()
    predictions = found["predictions"].collect()
    assert predictions.schema["report_id"] == pl.String
    assert sorted(predictions["report_id"].unique()) == sorted([ID, DIGITS])
    assert predictions["top_classes"].to_list() == [[1]] * 4


def test_pyarrow_reads_as_the_page_says(folder: Path) -> None:
    found = run_python(next(each for each in snippets("python", folder) if "import pyarrow" in each))
    assert found["mistakes"].select(["id", "report_id"]).to_pylist() == [{"id": 1, "report_id": ID}]
    ids = found["predictions"].to_table()["report_id"].to_pylist()
    assert sorted(set(ids)) == sorted([ID, DIGITS])


def test_duckdb_reads_as_the_page_says(folder: Path) -> None:
    code = next(each for each in snippets("sql", folder) if "read_parquet" in each)
    classes, mistakes = (
        duckdb.sql(statement).fetchall() for statement in code.split(";\n") if statement.strip()
    )
    assert classes == [("x", 0.5, 0.5, 0.5)] * 2
    assert mistakes == [(1, 0, 1, 0.75)]


def test_reports_of_an_older_version_read_as_null_in_what_they_lack(folder: Path) -> None:
    old = pa.Table.from_pylist([make_row("per_class", "old", None)], schema=table_schema("per_class"))
    store(old.drop_columns(["brier", "slice"]), layout.report_table(str(folder), "per_class", "old"))
    everything = f"read_parquet('{folder}/per_class/*.parquet', union_by_name = true)"
    query = f"select report_id, brier from {everything} where slice is null"
    assert dict(duckdb.sql(query).fetchall()) == {ID: 0.5, DIGITS: 0.5, "old": None}
    code = next(each for each in snippets("python", folder) if "import polars" in each)
    classes = run_python(code)["classes"].collect()
    assert dict(zip(classes["report_id"], classes["brier"], strict=True)) == {
        ID: 0.5,
        DIGITS: 0.5,
        "old": None,
    }


def run_python(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)  # the page's own example, which people copy
    return names
