"""A report appears once and whole, whichever process writes it and wherever a writer dies."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cnnlib.errors import ReportError, StorageError
from cnnlib.metrics.intervals import proportion
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.reports.manifest import find_manifest
from cnnlib.reports.result import EvaluationResult
from cnnlib.reports.schema import table_schema
from cnnlib.reports.write import unpack_claim, write_report
from cnnlib.storage import files, publish
from cnnlib.storage.layout import REPORT_TABLES


def read_rows(folder: Path, table: str, report_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / table / f"{report_id}.parquet").to_pylist()
    return rows


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_consistent(folder: Path, report_id: str) -> int:
    """Checks that all tables of a report hold the same counts; returns the number of correct rows."""
    overall, classes, cells, bins = (read_rows(folder, table, report_id) for table in REPORT_TABLES[:4])
    correct = sum(cell["count"] for cell in cells if cell["true"] == cell["predicted"])
    assert overall[0]["correct"] == correct == sum(row["correct"] for row in classes)
    assert (
        overall[0]["rows"] == sum(cell["count"] for cell in cells) == sum(row["support"] for row in classes)
    )
    assert sum(row["hits"] for row in bins if row["class_index"] is None) == correct
    assert {row["evaluated_at"] for row in classes} == {overall[0]["evaluated_at"]}
    manifest = json.loads((folder / "manifests" / f"{report_id}.json").read_bytes())
    assert manifest["correct"] == correct
    for stored in manifest["objects"].values():
        data = (folder / stored["name"]).read_bytes()
        assert (len(data), publish.sha256_hex(data)) == (stored["bytes"], stored["sha256"])
    return correct


def test_report_is_seven_objects_named_after_its_id(tmp_path: Path, make_result: Any, write: Any) -> None:
    written = write(make_result())
    assert written.created
    assert sorted(all_bytes(tmp_path)) == [
        f"activations/{written.report_id}.parquet",
        f"calibration/{written.report_id}.parquet",
        f"claims/{written.report_id}.zip",
        f"confusion/{written.report_id}.parquet",
        f"manifests/{written.report_id}.json",
        f"overall/{written.report_id}.parquet",
        f"per_class/{written.report_id}.parquet",
    ]
    assert sorted(written.uris) == sorted([*REPORT_TABLES, "manifest"])
    assert all(Path(uri).is_file() for uri in written.uris.values())


def test_overall_states_exactly_what_was_counted(tmp_path: Path, make_result: Any, write: Any) -> None:
    result = make_result()
    [row] = read_rows(tmp_path, "overall", write(result).report_id)
    accuracy = proportion(17, 21)
    metrics = {name for name in row if name.endswith(("_low", "_high", "_error"))}
    metrics |= {name for name in row if name.startswith(("macro_", "weighted_"))} | {"brier", "ece"}
    assert {name: value for name, value in row.items() if name not in metrics} == {
        "report_id": result.report_id,
        "evaluated_at": result.evaluated_at,
        "run": "demo",
        "model": "small-cnn",
        "checkpoint_uri": "/runs/demo/checkpoints/epoch-0002",
        "checkpoint_step": 1874,
        "checkpoint_epoch": 2,
        "checkpoint_digest": "c0ffee",
        "dataset_uri": "/data/fashion-mnist",
        "dataset_fingerprint": "da7a",
        "split": "test",
        "slice": None,
        "rows": 21,
        "correct": 17,
        "accuracy": 17 / 21,
        "loss": pytest.approx((17 * math.log(7 / 5) + 4 * math.log(8 / 2)) / 21, rel=1e-7),
        "top_k": 2,
        "top_k_accuracy": 1.0,
        "parameters": None,
        "flops_per_image": None,
        "seconds": 2.0,
        "images_per_s": 10.5,
        "python_version": "3.11.7",
        "cnnlib_version": "0.1.0",
        "ray_version": "2.60.0",
        "tensorflow_version": "2.21.0",
        "keras_version": "3.15.1",
        "numpy_version": None,
        "pixel_range": None,
        "outputs": None,
    }
    assert (row["accuracy_low"], row["accuracy_high"]) == (accuracy.low, accuracy.high)
    assert row["macro_accuracy"] == pytest.approx((8 / 11 + 9 / 10) / 2)
    assert row["macro_f1"] == pytest.approx((16 / 20 + 18 / 20 + 0) / 3)
    for name in ("macro_f1", "weighted_auc", "loss", "brier", "ece"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert (row["macro_auc_error"], row["macro_average_precision_error"]) == (0.0, 0.0)


def test_parameters_and_flops_are_stored_where_they_are_known(
    tmp_path: Path, make_result: Any, write: Any
) -> None:
    result = dataclasses.replace(
        make_result(), parameters=1234, flops_per_image=10**12, pixel_range="-1..1", outputs="logits"
    )
    [row] = read_rows(tmp_path, "overall", write(result).report_id)
    assert (row["parameters"], row["flops_per_image"]) == (1234, 10**12)
    assert (row["pixel_range"], row["outputs"]) == ("-1..1", "logits")


def test_every_slice_has_its_rows_below_those_of_the_whole_split(
    tmp_path: Path, make_result: Any, write: Any
) -> None:
    slices = {"source=web": [[8, 0, 0], [0, 0, 0], [0, 0, 0]], "empty": [[0] * 3] * 3}
    report_id = write(make_result(slices=slices)).report_id
    whole, web, empty = read_rows(tmp_path, "overall", report_id)
    assert [row["slice"] for row in (whole, web, empty)] == [None, "source=web", "empty"]
    assert [row["rows"] for row in (whole, web, empty)] == [21, 8, 0]
    assert (web["accuracy"], web["accuracy_high"], web["macro_f1"]) == (1.0, 1.0, 1.0)
    # A slice has no ranking, no bootstrap interval and no speed of its own.
    for name in ("macro_auc", "macro_average_precision_error", "macro_f1_low", "loss_high", "images_per_s"):
        assert web[name] is None
    assert (empty["accuracy"], empty["loss"]) == (None, None)
    classes = read_rows(tmp_path, "per_class", report_id)
    assert [row["slice"] for row in classes] == [None] * 3 + ["source=web"] * 3 + ["empty"] * 3
    assert [row["support"] for row in classes] == [11, 10, 0, 8, 0, 0, 0, 0, 0]
    assert (classes[3]["auc"], classes[3]["f1"], classes[3]["f1_low"]) == (None, 1.0, None)


def test_calibration_has_the_bins_of_the_predicted_class_first(
    tmp_path: Path, make_result: Any, write: Any
) -> None:
    bins = read_rows(tmp_path, "calibration", write(make_result()).report_id)
    assert [row["class_index"] for row in bins] == [index for index in (None, 0, 1, 2) for _ in range(15)]
    assert [row["bin"] for row in bins[:15]] == list(range(15))
    assert (bins[0]["bin_low"], bins[14]["bin_high"]) == (0.0, 1.0)
    # 17 rows right at 5/7, in bin 10; 4 rows wrong at 5/8, in bin 9.
    filled = {row["bin"]: row for row in bins[:15] if row["rows"]}
    assert [(b, row["rows"], row["hits"]) for b, row in filled.items()] == [(9, 4, 0), (10, 17, 17)]
    assert filled[9]["confidence"] == pytest.approx(5 / 8)
    assert (filled[9]["accuracy"], filled[9]["accuracy_low"]) == (0.0, 0.0)
    assert (bins[0]["confidence"], bins[0]["accuracy"], bins[0]["accuracy_high"]) == (None, None, None)


def test_activations_that_are_given_are_stored_under_the_reports_id(
    tmp_path: Path, make_result: Any, write: Any
) -> None:
    columns = {
        "layer_index": [0], "layer": ["conv"], "kind": ["kernel"], "map": [0], "height": [1], "width": [2],
        "channels": [1], "values": [[0.5, 0.25]], "example_id": [7], "total": [32],
    }  # fmt: skip
    result = dataclasses.replace(make_result(), activations=pa.table(columns))
    report_id = write(result).report_id
    [row] = read_rows(tmp_path, "activations", report_id)
    assert (row["report_id"], row["layer"], row["values"]) == (report_id, "conv", [0.5, 0.25])


def test_per_class_states_exactly_what_was_counted(tmp_path: Path, make_result: Any, write: Any) -> None:
    coat, bag, _ = read_rows(tmp_path, "per_class", write(make_result()).report_id)
    metrics = ("class_name", "support", "correct", "predicted", "precision", "most_confused_with")
    assert [coat[name] for name in metrics] == ["Coat", 11, 8, 9, 8 / 9, "Ankle boot"]
    assert [bag[name] for name in metrics] == ["Bag", 10, 9, 10, 0.9, "Coat"]
    assert (coat["accuracy"], coat["f1"], coat["most_confused_count"]) == (8 / 11, 16 / 20, 2)


def test_class_without_rows_has_support_zero_and_null_accuracy(
    tmp_path: Path, make_result: Any, write: Any
) -> None:
    boot = read_rows(tmp_path, "per_class", write(make_result()).report_id)[2]
    assert (boot["support"], boot["correct"], boot["predicted"]) == (0, 0, 2)
    nulls = ("accuracy", "accuracy_low", "accuracy_high", "auc", "auc_error", "loss", "most_confused_with")
    assert [boot[name] for name in nulls] == [None] * 7


def test_confusion_has_a_row_for_every_pair(tmp_path: Path, make_result: Any, write: Any) -> None:
    cells = read_rows(tmp_path, "confusion", write(make_result()).report_id)
    assert [cell["count"] for cell in cells] == [8, 1, 2, 1, 9, 0, 0, 0, 0]
    assert (cells[2]["true_name"], cells[2]["predicted_name"]) == ("Coat", "Ankle boot")


def test_split_without_rows_gives_a_report_of_nulls(tmp_path: Path, make_result: Any) -> None:
    result = make_result()
    written = write_report(
        str(tmp_path),
        EvaluationResult(
            subject=result.subject,
            sums=MetricSums.zero(3, top_k=2),
            evaluated_at=result.evaluated_at,
            seconds=0.0,
            versions=result.versions,
        ),
    )
    [row] = read_rows(tmp_path, "overall", written.report_id)
    names = (
        "accuracy",
        "accuracy_low",
        "loss",
        "top_k_accuracy",
        "images_per_s",
        "macro_f1",
        "ece",
        "brier_low",
    )
    assert [row[name] for name in names] == [None] * 8


def test_foreign_model_has_no_run_step_or_epoch(tmp_path: Path, make_result: Any, write: Any) -> None:
    foreign = {"run": None, "model": "some.keras", "checkpoint_step": None, "checkpoint_epoch": None}
    [row] = read_rows(tmp_path, "overall", write(make_result(**foreign)).report_id)
    assert {name: row[name] for name in foreign} == foreign


@pytest.mark.parametrize("table", REPORT_TABLES)
def test_stored_table_has_the_schema_and_its_version(
    tmp_path: Path, make_result: Any, write: Any, table: str
) -> None:
    stored = pq.read_schema(tmp_path / table / f"{write(make_result()).report_id}.parquet")
    assert stored.equals(table_schema(table))
    assert stored.metadata[b"cnnlib.report_version"] == b"3"


def test_equal_results_give_the_same_bytes(tmp_path: Path, make_result: Any) -> None:
    for name in ("a", "b"):
        write_report(str(tmp_path / name), make_result())
    assert all_bytes(tmp_path / "a") == all_bytes(tmp_path / "b")
    assert len(all_bytes(tmp_path / "a")) == 7


def test_second_evaluation_changes_nothing(tmp_path: Path, make_result: Any, write: Any) -> None:
    first = write(make_result())
    before = all_bytes(tmp_path)
    again = write(make_result(minute=30, seconds=99.0, counts=[[11, 0, 0], [0, 10, 0], [0, 0, 0]]))
    assert (again.created, again.report_id) == (False, first.report_id)
    assert all_bytes(tmp_path) == before


def test_racing_writers_of_different_counts_leave_one_consistent_report(
    tmp_path: Path, make_result: Any, write: Any
) -> None:
    writers = 8
    start, outcomes = threading.Barrier(writers), []

    def evaluate(index: int) -> None:
        result = make_result(minute=index, counts=[[8 - index, 1 + index, 2], [1, 9, 0], [0, 0, 0]])
        start.wait()
        outcomes.append(write(result))

    threads = [threading.Thread(target=evaluate, args=(index,)) for index in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written.created for written in outcomes) == [False] * (writers - 1) + [True]
    correct = assert_consistent(tmp_path, outcomes[0].report_id)
    assert correct in range(10, 18)
    assert len(all_bytes(tmp_path)) == 7


@pytest.mark.parametrize("cut", [0, 20, -30])
def test_a_damaged_claim_is_an_error_that_says_what_to_do(
    tmp_path: Path, make_result: Any, write: Any, cut: int
) -> None:
    write(make_result())
    [claim] = (tmp_path / "claims").iterdir()
    with pytest.raises(
        ReportError, match=r"The claim of a report is damaged .* Delete it from the folder claims"
    ):
        unpack_claim(claim.read_bytes()[:cut])


def test_every_object_is_the_one_in_the_claim(tmp_path: Path, make_result: Any, write: Any) -> None:
    report_id = write(make_result()).report_id
    stored = all_bytes(tmp_path)
    claim = unpack_claim(stored.pop(f"claims/{report_id}.zip"))
    assert stored == {
        **{f"{table}/{report_id}.parquet": claim[table] for table in REPORT_TABLES},
        f"manifests/{report_id}.json": claim["manifest"],
    }


@pytest.mark.parametrize("survivors", range(7))
def test_writer_that_dies_leaves_no_report_and_the_next_one_completes_it(
    tmp_path: Path, make_result: Any, write: Any, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    created = 0

    def create_or_die(uri: str, data: bytes) -> bool:
        nonlocal created
        if created == survivors:
            raise StorageError("the machine is gone")
        created += 1
        return real_create(uri, data)

    real_create, result = files.create_bytes, make_result()
    with monkeypatch.context() as dying:
        dying.setattr(files, "create_bytes", create_or_die)
        dying.setattr(publish, "create_bytes", create_or_die)
        with pytest.raises(StorageError):
            write(result)
    assert len(all_bytes(tmp_path)) == survivors
    assert find_manifest(str(tmp_path), result.report_id) is None

    # Another machine evaluates it again, and its floating point gives one more row right.
    written = write(make_result(minute=45, counts=[[9, 0, 2], [1, 9, 0], [0, 0, 0]]))
    assert written.created
    assert assert_consistent(tmp_path, written.report_id) == (18 if survivors == 0 else 17)


def test_completing_a_dead_report_with_other_counts_is_logged(
    tmp_path: Path,
    make_result: Any,
    write: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(publish, "create_bytes", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(make_result())
    written = write(make_result(counts=[[9, 0, 2], [1, 9, 0], [0, 0, 0]]))
    assert f"report_kept_first_result report_id={written.report_id}" in capsys.readouterr().err


def test_report_completed_by_another_run_keeps_the_first_runs_name(
    tmp_path: Path, make_result: Any, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(publish, "create_bytes", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(make_result(run="first"))
    written = write(make_result(run="copy"))
    runs = {row["run"] for row in read_rows(tmp_path, "per_class", written.report_id)}
    manifest = find_manifest(str(tmp_path), written.report_id)
    assert manifest is not None
    assert runs == {"first"} == {manifest["subject"]["run"]}


def test_pandas_duckdb_and_pyarrow_read_the_folder_as_one_table(
    tmp_path: Path, make_result: Any, write: Any
) -> None:
    write(make_result())
    write(make_result(checkpoint_digest="beef", run=None, checkpoint_step=None, checkpoint_epoch=None))
    for table, num_rows in (("overall", 2), ("per_class", 6), ("confusion", 18), ("calibration", 120)):
        folder = tmp_path / table
        in_pandas = pd.read_parquet(folder)
        in_arrow = ds.dataset(folder).to_table()
        in_duckdb = duckdb.sql(f"SELECT * FROM '{folder}/*.parquet'").to_arrow_table()
        assert len(in_pandas) == in_arrow.num_rows == in_duckdb.num_rows == num_rows
        names = table_schema(table).names
        assert list(in_pandas.columns) == in_arrow.column_names == in_duckdb.column_names == names
    query = f"SELECT class_name, sum(correct) FROM '{tmp_path}/per_class/*.parquet' GROUP BY 1 ORDER BY 1"
    assert duckdb.sql(query).fetchall() == [("Ankle boot", 0), ("Bag", 18), ("Coat", 16)]
    assert str(pd.read_parquet(tmp_path / "per_class")["evaluated_at"].dtype) == "datetime64[us, UTC]"
