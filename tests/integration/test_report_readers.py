"""Tests that pandas, polars, DuckDB and pyarrow read a folder of reports on a real S3 server as tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cnnlib.models.activations import build_maps
from cnnlib.reports.build import build_activations
from cnnlib.reports.predictions import write_predictions
from cnnlib.reports.result import EvaluationResult, installed_versions
from cnnlib.reports.schema import table_schema
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.reports.write import write_report
from cnnlib.storage import layout
from cnnlib.storage.uri import join_uri
from infra.local_s3 import LocalS3Server
from tests.buckets import BucketForDuckdb, open_in_arrow
from tests.scores import make_rows, make_sums

COUNTS = [[8, 1, 2], [1, 9, 0], [3, 0, 6]]
ROWS, CORRECT = 30, 23
ROWS_PER_REPORT = {
    "overall": 2,  # the whole split and a slice
    "per_class": 2 * 3,
    "confusion": 3 * 3,
    "calibration": 4 * 15,  # the predicted class and each of three, in 15 bins
    "activations": 1 + 2,
}
BY_REPORT = ds.partitioning(pa.schema([("report_id", pa.string())]), flavor="hive")


@pytest.fixture
def reports(s3_uri: str) -> tuple[str, list[str]]:
    """Two reports with a slice, pictures and predictions in two parts each; the folder and their ids."""
    return s3_uri, [write(s3_uri, f"digest {index}") for index in range(2)]


def write(reports_uri: str, digest: str) -> str:
    subject = ReportSubject(
        checkpoint_digest=digest,
        dataset_fingerprint="fingerprint",
        split="test",
        evaluation={"top_k": 2},
        class_names=("Coat", "Bag", "Ankle boot"),
        checkpoint_uri="/runs/demo/checkpoints/epoch-0001",
        dataset_uri="/data/fashion-mnist",
    )
    rows, name = make_rows(COUNTS), report_id(subject)
    stored = [
        write_predictions(
            reports_uri,
            name,
            shard_index=shard,
            ids=rows.ids[part],
            labels=rows.labels[part],
            probabilities=rows.probabilities[part],
        )
        for shard, part in enumerate((slice(0, 20), slice(20, 30)))
    ]
    image = build_maps(np.ones((1, 4, 4, 1)), layer_index=-1, layer="image", kind="image")
    conv = build_maps(np.zeros((2, 3, 3, 1)), layer_index=1, layer="conv", kind="activation")
    write_report(
        reports_uri,
        EvaluationResult(
            subject=subject,
            sums=make_sums(COUNTS),
            evaluated_at=datetime(2026, 11, 22, 6, tzinfo=UTC),
            seconds=1.0,
            versions=installed_versions(),
            rows=rows,
            slices={"source=web": make_sums([[1, 1, 0], [0, 1, 0], [0, 0, 0]])},
            predictions=tuple(stored),
            parameters=47_090,
            flops_per_image=35_583_232,
            activations=build_activations(0, [image, conv]),
        ),
    )
    return name


@pytest.fixture
def options(s3_server: LocalS3Server) -> dict[str, str]:
    """The options with which polars reaches a server that is not AWS."""
    return {
        "aws_endpoint_url": s3_server.endpoint_url,
        "aws_access_key_id": s3_server.access_key,
        "aws_secret_access_key": s3_server.secret_key,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }


@pytest.fixture
def bucket(s3_uri: str) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.register_filesystem(BucketForDuckdb(open_in_arrow(s3_uri)[0]))
        yield connection


@pytest.mark.parametrize("table", layout.REPORT_TABLES)
def test_every_engine_reads_a_table_of_all_reports(
    table: str,
    reports: tuple[str, list[str]],
    options: dict[str, str],
    bucket: duckdb.DuckDBPyConnection,
) -> None:
    folder, ids = reports
    uri, num_rows = join_uri(folder, table), 2 * ROWS_PER_REPORT[table]
    filesystem, path = open_in_arrow(uri)
    in_pandas = pd.read_parquet(path, filesystem=filesystem)
    in_arrow = ds.dataset(path, filesystem=filesystem).to_table()
    in_polars = pl.scan_parquet(f"{uri}/*.parquet", storage_options=options).collect()
    in_duckdb = bucket.sql(f"select * from read_parquet('bucket://{path}/*.parquet')").to_arrow_table()
    names = table_schema(table).names
    assert in_arrow.schema.equals(table_schema(table))
    assert list(in_pandas.columns) == in_polars.columns == in_duckdb.column_names == names
    assert len(in_pandas) == in_polars.height == in_duckdb.num_rows == in_arrow.num_rows == num_rows
    for found in (in_pandas["report_id"], in_polars["report_id"], in_duckdb["report_id"].to_pylist()):
        assert set(found) == set(ids)


def test_every_engine_reads_the_same_values(
    reports: tuple[str, list[str]], options: dict[str, str], bucket: duckdb.DuckDBPyConnection
) -> None:
    uri = join_uri(reports[0], "per_class")
    filesystem, path = open_in_arrow(uri)
    expected = {"Coat": 2 * 8, "Bag": 2 * 9, "Ankle boot": 2 * 6}
    frame = pd.read_parquet(path, filesystem=filesystem)
    assert frame[frame["slice"].isna()].groupby("class_name")["correct"].sum().to_dict() == expected
    lazy = pl.scan_parquet(f"{uri}/*.parquet", storage_options=options).filter(pl.col("slice").is_null())
    assert dict(lazy.group_by("class_name").agg(pl.col("correct").sum()).collect().iter_rows()) == expected
    where = f"from read_parquet('bucket://{path}/*.parquet') where slice is null"
    assert dict(bucket.sql(f"select class_name, sum(correct) {where} group by all").fetchall()) == expected
    [times] = lazy.select(pl.col("evaluated_at").unique()).collect().iter_rows()
    assert times == (datetime(2026, 11, 22, 6, tzinfo=UTC),)


def test_every_engine_finds_the_report_of_a_prediction_in_its_folder(
    reports: tuple[str, list[str]], options: dict[str, str], bucket: duckdb.DuckDBPyConnection
) -> None:
    folder, ids = reports
    uri = join_uri(folder, "predictions")
    filesystem, path = open_in_arrow(uri)
    correct = dict.fromkeys(ids, CORRECT)

    frame = pd.read_parquet(path, filesystem=filesystem, partitioning=BY_REPORT)
    assert frame.query("label == prediction").groupby("report_id", observed=True).size().to_dict() == correct
    one = ds.dataset(path, filesystem=filesystem, partitioning=BY_REPORT)
    assert one.count_rows(filter=ds.field("report_id") == ids[0]) == ROWS
    lazy = pl.scan_parquet(
        f"{uri}/**/*.parquet",
        storage_options=options,
        hive_partitioning=True,
        hive_schema={"report_id": pl.String},
    )
    right = lazy.filter(pl.col("label") == pl.col("prediction")).group_by("report_id").len()
    assert dict(right.collect().iter_rows()) == correct
    source = (
        f"read_parquet('bucket://{path}/*/*.parquet', hive_partitioning = true, "
        "hive_types = {'report_id': varchar})"
    )
    query = f"select report_id, count(*) from {source} where label = prediction group by all"
    assert dict(bucket.sql(query).fetchall()) == correct
