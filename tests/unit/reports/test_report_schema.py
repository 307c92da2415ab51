"""Report columns are promises: to change one of these lists is to break somebody's query."""

from __future__ import annotations

import doctest

import pyarrow as pa
import pytest

from cnnlib.reports import compare, schema
from cnnlib.reports.history import HISTORY_COLUMNS, HISTORY_SCHEMA
from cnnlib.reports.schema import COLUMNS, REPORT_VERSION, VERSION_KEY, table_schema

KEYS = [
    ("report_id", pa.string()),
    ("evaluated_at", pa.timestamp("us", tz="UTC")),
    ("run", pa.string()),
    ("model", pa.string()),
    ("checkpoint_uri", pa.string()),
    ("checkpoint_step", pa.int64()),
    ("checkpoint_epoch", pa.int32()),
    ("checkpoint_digest", pa.string()),
    ("dataset_uri", pa.string()),
    ("dataset_fingerprint", pa.string()),
    ("split", pa.string()),
]
PROMISED = {
    "per_class": [
        *KEYS,
        ("class_index", pa.int32()),
        ("class_name", pa.string()),
        ("support", pa.int64()),
        ("correct", pa.int64()),
        ("predicted", pa.int64()),
        ("accuracy", pa.float64()),
        ("accuracy_low", pa.float64()),
        ("accuracy_high", pa.float64()),
        ("precision", pa.float64()),
        ("f1", pa.float64()),
        ("most_confused_with", pa.string()),
        ("most_confused_count", pa.int64()),
    ],
    "overall": [
        *KEYS,
        ("rows", pa.int64()),
        ("correct", pa.int64()),
        ("accuracy", pa.float64()),
        ("accuracy_low", pa.float64()),
        ("accuracy_high", pa.float64()),
        ("loss", pa.float64()),
        ("top_k", pa.int32()),
        ("top_k_accuracy", pa.float64()),
        ("seconds", pa.float64()),
        ("images_per_s", pa.float64()),
        ("python_version", pa.string()),
        ("cnnlib_version", pa.string()),
        ("ray_version", pa.string()),
        ("tensorflow_version", pa.string()),
        ("keras_version", pa.string()),
        ("numpy_version", pa.string()),
    ],
    "confusion": [
        ("report_id", pa.string()),
        ("true", pa.int32()),
        ("predicted", pa.int32()),
        ("true_name", pa.string()),
        ("predicted_name", pa.string()),
        ("count", pa.int64()),
    ],
    "predictions": [
        ("id", pa.int64()),
        ("label", pa.int32()),
        ("prediction", pa.int32()),
        ("probability", pa.float32()),
    ],
}
NULLABLE = {
    "per_class": {
        *("run", "model", "checkpoint_step", "checkpoint_epoch"),
        *("accuracy", "accuracy_low", "accuracy_high", "precision", "f1", "most_confused_with"),
    },
    "overall": {
        *("run", "model", "checkpoint_step", "checkpoint_epoch"),
        *("accuracy", "accuracy_low", "accuracy_high", "loss", "top_k_accuracy", "images_per_s"),
        *("python_version", "cnnlib_version", "ray_version"),
        *("tensorflow_version", "keras_version", "numpy_version"),
    },
    "confusion": set(),
    "predictions": set(),
}


@pytest.mark.parametrize("table", PROMISED)
def test_table_has_the_promised_columns_in_their_order(table: str) -> None:
    assert [(field.name, field.type) for field in table_schema(table)] == PROMISED[table]


@pytest.mark.parametrize("table", PROMISED)
def test_only_these_columns_may_be_null(table: str) -> None:
    assert {field.name for field in table_schema(table) if field.nullable} == NULLABLE[table]


def test_every_table_is_promised() -> None:
    assert set(COLUMNS) == set(PROMISED)


@pytest.mark.parametrize("table", PROMISED)
def test_schema_carries_the_report_version(table: str) -> None:
    assert table_schema(table).metadata == {VERSION_KEY: str(REPORT_VERSION).encode()}


@pytest.mark.parametrize("column", [column for columns in COLUMNS.values() for column in columns], ids=str)
def test_every_column_says_what_it_means_and_what_null_means(column: schema.Column) -> None:
    assert column.doc.endswith(".")
    # The ends of an interval are null where the accuracy before them is.
    if column.nullable and "interval" not in column.doc:
        assert "null" in column.doc


def test_history_has_the_promised_columns() -> None:
    assert [(field.name, field.type) for field in HISTORY_SCHEMA] == [
        ("epoch", pa.int32()),
        ("step", pa.int64()),
        ("loss", pa.float64()),
        ("accuracy", pa.float64()),
        ("validation_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("learning_rate", pa.float64()),
        ("images_per_s", pa.float64()),
        ("data_wait", pa.float64()),
        ("seconds", pa.float64()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("rows", pa.int64()),
    ]
    assert all(column.doc.endswith(".") for column in HISTORY_COLUMNS)


@pytest.mark.parametrize("module", [schema, compare])
def test_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted >= 1
    assert result.failed == 0
