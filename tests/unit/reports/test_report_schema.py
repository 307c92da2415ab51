"""Report columns are promises: a change to one of these lists breaks somebody's query."""

from __future__ import annotations

import doctest

import pyarrow as pa
import pytest

from cnnlib.gates import checks as gate_checks
from cnnlib.reports import percent, schema
from cnnlib.reports import ranking as report_ranking
from cnnlib.reports.schema import COLUMNS, REPORT_VERSION, VERSION_KEY, table_schema
from cnnlib.runs.history import HISTORY_COLUMNS, HISTORY_SCHEMA

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
STRING, INT, SMALL, FLOAT = pa.string(), pa.int64(), pa.int32(), pa.float64()


def metric(name: str) -> list[tuple[str, pa.DataType]]:
    return [(column, FLOAT) for column in (name, f"{name}_low", f"{name}_high")]


def ranking(name: str) -> list[tuple[str, pa.DataType]]:
    return [*metric(name), (f"{name}_error", FLOAT)]


PROMISED = {
    "per_class": [
        *KEYS,
        ("slice", STRING),
        ("class_index", SMALL),
        ("class_name", STRING),
        ("support", INT),
        ("correct", INT),
        ("predicted", INT),
        *metric("accuracy"),
        *metric("precision"),
        *metric("f1"),
        ("top_k", SMALL),
        *metric("top_k_accuracy"),
        *ranking("auc"),
        *ranking("average_precision"),
        *metric("loss"),
        *metric("brier"),
        *metric("ece"),
        ("most_confused_with", STRING),
        ("most_confused_count", INT),
    ],
    "overall": [
        *KEYS,
        ("slice", STRING),
        ("rows", INT),
        ("correct", INT),
        *metric("accuracy"),
        *metric("macro_accuracy"),
        *metric("macro_precision"),
        *metric("macro_f1"),
        *metric("weighted_precision"),
        *metric("weighted_f1"),
        *ranking("macro_auc"),
        *ranking("weighted_auc"),
        *ranking("macro_average_precision"),
        *metric("loss"),
        *metric("brier"),
        *metric("ece"),
        ("top_k", SMALL),
        *metric("top_k_accuracy"),
        ("parameters", INT),
        ("flops_per_image", INT),
        ("seconds", FLOAT),
        ("images_per_s", FLOAT),
        ("python_version", STRING),
        ("cnnlib_version", STRING),
        ("ray_version", STRING),
        ("tensorflow_version", STRING),
        ("keras_version", STRING),
        ("numpy_version", STRING),
        ("pixel_range", STRING),
        ("outputs", STRING),
    ],
    "confusion": [
        ("report_id", STRING),
        ("true", SMALL),
        ("predicted", SMALL),
        ("true_name", STRING),
        ("predicted_name", STRING),
        ("count", INT),
    ],
    "calibration": [
        ("report_id", STRING),
        ("class_index", SMALL),
        ("bin", SMALL),
        ("bin_low", FLOAT),
        ("bin_high", FLOAT),
        ("rows", INT),
        ("hits", INT),
        ("confidence", FLOAT),
        *metric("accuracy"),
    ],
    "activations": [
        ("report_id", STRING),
        ("layer_index", SMALL),
        ("layer", STRING),
        ("kind", STRING),
        ("map", SMALL),
        ("height", SMALL),
        ("width", SMALL),
        ("channels", SMALL),
        ("values", pa.list_(pa.float32())),
        ("example_id", INT),
        ("total", SMALL),
    ],
    "predictions": [
        ("id", INT),
        ("label", SMALL),
        ("prediction", SMALL),
        ("probability", pa.float32()),
        ("top_classes", pa.list_(SMALL)),
        ("top_probabilities", pa.list_(pa.float32())),
        ("slices", pa.list_(STRING)),
    ],
    "gates": [
        ("report_id", STRING),
        ("checked_at", pa.timestamp("us", tz="UTC")),
        ("gates_digest", STRING),
        ("check", STRING),
        ("scope", STRING),
        ("slice", STRING),
        ("class_name", STRING),
        ("limit", FLOAT),
        *metric("observed"),
        ("p_value", FLOAT),
        ("significance", FLOAT),
        ("baseline_id", STRING),
        ("verdict", STRING),
        ("reason", STRING),
    ],
}
# Every metric may be null; these counts and keys may not.
NEVER_NULL = {
    "per_class": {
        *("report_id", "evaluated_at", "checkpoint_uri", "checkpoint_digest", "dataset_uri"),
        *("dataset_fingerprint", "split", "class_index", "class_name", "support", "correct", "predicted"),
        *("top_k", "most_confused_count"),
    },
    "overall": {
        *("report_id", "evaluated_at", "checkpoint_uri", "checkpoint_digest", "dataset_uri"),
        *("dataset_fingerprint", "split", "rows", "correct", "top_k", "seconds"),
    },
    "confusion": {"report_id", "true", "predicted", "true_name", "predicted_name", "count"},
    "calibration": {"report_id", "bin", "bin_low", "bin_high", "rows", "hits"},
    "activations": {name for name, _ in PROMISED["activations"]},
    "predictions": {name for name, _ in PROMISED["predictions"]} - {"slices"},
    "gates": {
        *("report_id", "checked_at", "gates_digest", "check", "scope", "limit", "significance", "verdict"),
        "reason",
    },
}


@pytest.mark.parametrize("table", PROMISED)
def test_table_has_the_promised_columns_in_their_order(table: str) -> None:
    assert [(field.name, field.type) for field in table_schema(table)] == PROMISED[table]


@pytest.mark.parametrize("table", PROMISED)
def test_these_columns_and_no_others_are_never_null(table: str) -> None:
    assert {field.name for field in table_schema(table) if not field.nullable} == NEVER_NULL[table]


def test_every_table_is_promised() -> None:
    assert set(COLUMNS) == set(PROMISED)


@pytest.mark.parametrize("table", PROMISED)
def test_schema_carries_the_report_version(table: str) -> None:
    assert table_schema(table).metadata == {VERSION_KEY: str(REPORT_VERSION).encode()}


@pytest.mark.parametrize("column", [column for columns in COLUMNS.values() for column in columns], ids=str)
def test_every_column_says_what_it_means_and_what_null_means(column: schema.Column) -> None:
    assert column.doc.endswith(".")
    # The ends of an interval are null where their metric is.
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


@pytest.mark.parametrize("module", [schema, percent, report_ranking, gate_checks])
def test_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted >= 1
    assert result.failed == 0
