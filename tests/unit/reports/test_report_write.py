"""A report appears once and whole, whoever writes it and wherever a writer dies."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cnnlib.errors import StorageError
from cnnlib.metrics.confusion import ScoreSums
from cnnlib.metrics.per_class import proportion
from cnnlib.reports.read import find_manifest
from cnnlib.reports.schema import table_schema
from cnnlib.reports.write import write_predictions, write_report
from cnnlib.storage import files, publish
from cnnlib.storage.layout import REPORT_TABLES


def read_rows(folder: Path, table: str, report_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / table / f"{report_id}.parquet").to_pylist()
    return rows


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_consistent(folder: Path, report_id: str) -> int:
    """Checks that all tables of a report tell of the same counts; returns how many rows were right."""
    overall, classes, cells = (read_rows(folder, table, report_id) for table in REPORT_TABLES)
    correct = sum(cell["count"] for cell in cells if cell["true"] == cell["predicted"])
    assert overall[0]["correct"] == correct == sum(row["correct"] for row in classes)
    assert (
        overall[0]["rows"] == sum(cell["count"] for cell in cells) == sum(row["support"] for row in classes)
    )
    assert {row["evaluated_at"] for row in classes} == {overall[0]["evaluated_at"]}
    manifest = json.loads((folder / "manifests" / f"{report_id}.json").read_bytes())
    assert manifest["correct"] == correct
    for stored in manifest["objects"].values():
        data = (folder / stored["name"]).read_bytes()
        assert (len(data), publish.sha256_hex(data)) == (stored["bytes"], stored["sha256"])
    return correct


def test_report_is_four_objects_named_after_its_id(tmp_path: Path, make_facts: Any, write: Any) -> None:
    written = write(make_facts())
    assert written.created
    assert sorted(all_bytes(tmp_path)) == [
        f"confusion/{written.report_id}.parquet",
        f"manifests/{written.report_id}.json",
        f"overall/{written.report_id}.parquet",
        f"per_class/{written.report_id}.parquet",
    ]
    assert sorted(written.uris) == ["confusion", "manifest", "overall", "per_class"]
    assert all(Path(uri).is_file() for uri in written.uris.values())


def test_overall_states_exactly_what_was_counted(tmp_path: Path, make_facts: Any, write: Any) -> None:
    facts = make_facts()
    [row] = read_rows(tmp_path, "overall", write(facts).report_id)
    accuracy = proportion(17, 21)
    assert row == {
        "report_id": facts.report_id,
        "evaluated_at": facts.evaluated_at,
        "run": "demo",
        "model": "small-cnn",
        "checkpoint_uri": "/runs/demo/checkpoints/epoch-0002",
        "checkpoint_step": 1874,
        "checkpoint_epoch": 2,
        "checkpoint_digest": "c0ffee",
        "dataset_uri": "/data/fashion-mnist",
        "dataset_fingerprint": "da7a",
        "split": "test",
        "rows": 21,
        "correct": 17,
        "accuracy": 17 / 21,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "loss": 0.5,
        "top_k": 2,
        "top_k_accuracy": 20 / 21,
        "seconds": 2.0,
        "images_per_s": 10.5,
        "python_version": "3.11.7",
        "cnnlib_version": "0.1.0",
        "ray_version": "2.60.0",
        "tensorflow_version": "2.21.0",
        "keras_version": "3.15.1",
        "numpy_version": None,
    }


def test_per_class_states_exactly_what_was_counted(tmp_path: Path, make_facts: Any, write: Any) -> None:
    coat, bag, _ = read_rows(tmp_path, "per_class", write(make_facts()).report_id)
    figures = ("class_name", "support", "correct", "predicted", "precision", "most_confused_with")
    assert [coat[name] for name in figures] == ["Coat", 11, 8, 9, 8 / 9, "Ankle boot"]
    assert [bag[name] for name in figures] == ["Bag", 10, 9, 10, 0.9, "Coat"]
    assert (coat["accuracy"], coat["f1"], coat["most_confused_count"]) == (8 / 11, 16 / 20, 2)


def test_class_without_rows_has_support_zero_and_null_accuracy(
    tmp_path: Path, make_facts: Any, write: Any
) -> None:
    boot = read_rows(tmp_path, "per_class", write(make_facts()).report_id)[2]
    assert (boot["support"], boot["correct"], boot["predicted"]) == (0, 0, 2)
    nulls = ("accuracy", "accuracy_low", "accuracy_high", "most_confused_with")
    assert [boot[name] for name in nulls] == [None] * 4


def test_confusion_has_a_row_for_every_pair(tmp_path: Path, make_facts: Any, write: Any) -> None:
    cells = read_rows(tmp_path, "confusion", write(make_facts()).report_id)
    assert [cell["count"] for cell in cells] == [8, 1, 2, 1, 9, 0, 0, 0, 0]
    assert (cells[2]["true_name"], cells[2]["predicted_name"]) == ("Coat", "Ankle boot")


def test_split_without_rows_gives_a_report_of_nulls(tmp_path: Path, make_facts: Any) -> None:
    facts = make_facts()
    written = write_report(
        str(tmp_path),
        facts.subject,
        ScoreSums.zero(3, top_k=2),
        evaluated_at=facts.evaluated_at,
        seconds=0.0,
        versions=facts.versions,
    )
    [row] = read_rows(tmp_path, "overall", written.report_id)
    names = ("accuracy", "accuracy_low", "loss", "top_k_accuracy", "images_per_s")
    assert [row[name] for name in names] == [None] * 5


def test_foreign_model_has_no_run_step_or_epoch(tmp_path: Path, make_facts: Any, write: Any) -> None:
    foreign = {"run": None, "model": "some.keras", "checkpoint_step": None, "checkpoint_epoch": None}
    [row] = read_rows(tmp_path, "overall", write(make_facts(**foreign)).report_id)
    assert {name: row[name] for name in foreign} == foreign


@pytest.mark.parametrize("table", REPORT_TABLES)
def test_stored_table_has_the_schema_and_its_version(
    tmp_path: Path, make_facts: Any, write: Any, table: str
) -> None:
    stored = pq.read_schema(tmp_path / table / f"{write(make_facts()).report_id}.parquet")
    assert stored.equals(table_schema(table))
    assert stored.metadata[b"cnnlib.report_version"] == b"1"


def test_same_facts_give_the_same_bytes(tmp_path: Path, make_facts: Any) -> None:
    for name in ("a", "b"):
        facts = make_facts()
        write_report(
            str(tmp_path / name),
            facts.subject,
            facts.score,
            evaluated_at=facts.evaluated_at,
            seconds=facts.seconds,
            versions=facts.versions,
        )
    assert all_bytes(tmp_path / "a") == all_bytes(tmp_path / "b")
    assert len(all_bytes(tmp_path / "a")) == 4


def test_second_evaluation_changes_nothing(tmp_path: Path, make_facts: Any, write: Any) -> None:
    first = write(make_facts())
    before = all_bytes(tmp_path)
    again = write(make_facts(minute=30, seconds=99.0, counts=[[11, 0, 0], [0, 10, 0], [0, 0, 0]]))
    assert (again.created, again.report_id) == (False, first.report_id)
    assert all_bytes(tmp_path) == before


def test_racing_writers_of_different_counts_leave_one_consistent_report(
    tmp_path: Path, make_facts: Any, write: Any
) -> None:
    writers = 8
    start, outcomes = threading.Barrier(writers), []

    def evaluate(index: int) -> None:
        facts = make_facts(minute=index, counts=[[8 - index, 1 + index, 2], [1, 9, 0], [0, 0, 0]])
        start.wait()
        outcomes.append(write(facts))

    threads = [threading.Thread(target=evaluate, args=(index,)) for index in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written.created for written in outcomes) == [False] * (writers - 1) + [True]
    correct = assert_consistent(tmp_path, outcomes[0].report_id)
    assert correct in range(10, 18)
    assert len(all_bytes(tmp_path)) == 4


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_writer_that_dies_leaves_no_report_and_the_next_one_completes_it(
    tmp_path: Path, make_facts: Any, write: Any, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    created = 0

    def create_or_die(uri: str, data: bytes) -> bool:
        nonlocal created
        if created == survivors:
            raise StorageError("the machine is gone")
        created += 1
        return real_create(uri, data)

    real_create, facts = files.create_bytes, make_facts()
    with monkeypatch.context() as dying:
        dying.setattr(files, "create_bytes", create_or_die)
        dying.setattr(publish, "create_bytes", create_or_die)
        with pytest.raises(StorageError):
            write(facts)
    assert len(all_bytes(tmp_path)) == survivors
    assert find_manifest(str(tmp_path), facts.report_id) is None

    # Another machine evaluates it again, and its floating point gives one more row right.
    written = write(make_facts(minute=45, counts=[[9, 0, 2], [1, 9, 0], [0, 0, 0]]))
    assert written.created
    assert assert_consistent(tmp_path, written.report_id) == (18 if survivors == 0 else 17)


def test_completing_a_dead_report_with_other_counts_is_logged(
    tmp_path: Path,
    make_facts: Any,
    write: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(publish, "create_bytes", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(make_facts())
    written = write(make_facts(counts=[[9, 0, 2], [1, 9, 0], [0, 0, 0]]))
    assert f"report_kept_first_score report_id={written.report_id}" in capsys.readouterr().err


def test_report_completed_by_another_run_keeps_the_first_runs_name(
    tmp_path: Path, make_facts: Any, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(publish, "create_bytes", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(make_facts(run="first"))
    written = write(make_facts(run="copy"))
    runs = {row["run"] for row in read_rows(tmp_path, "per_class", written.report_id)}
    manifest = find_manifest(str(tmp_path), written.report_id)
    assert manifest is not None
    assert runs == {"first"} == {manifest["subject"]["run"]}


def test_pandas_duckdb_and_pyarrow_read_the_folder_as_one_table(
    tmp_path: Path, make_facts: Any, write: Any
) -> None:
    write(make_facts())
    write(make_facts(checkpoint_digest="beef", run=None, checkpoint_step=None, checkpoint_epoch=None))
    for table, num_rows in (("overall", 2), ("per_class", 6), ("confusion", 18)):
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


def test_predictions_are_named_after_their_first_row(tmp_path: Path) -> None:
    columns = {"labels": [1, 0], "predictions": [1, 2], "probabilities": [0.5, 0.25]}
    first = write_predictions(str(tmp_path), "abc", shard_index=1, ids=[500, 501], **columns)
    assert write_predictions(str(tmp_path), "abc", shard_index=1, ids=[500, 501], **columns) == first
    assert first == str(tmp_path / "predictions" / "abc" / "part-00001-000000000500.parquet")
    stored = pq.read_table(tmp_path / "predictions" / "abc")
    assert stored.schema.equals(table_schema("predictions"))
    assert stored.to_pylist() == [
        {"id": 500, "label": 1, "prediction": 1, "probability": 0.5},
        {"id": 501, "label": 0, "prediction": 2, "probability": 0.25},
    ]
