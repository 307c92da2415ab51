"""Predictions are read back row by row, and only if they give the counts of their report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cnnlib.errors import AccessError, ReportError
from cnnlib.reports.manifest import StoredTable
from cnnlib.reports.predictions import (
    predictions_table,
    read_predictions,
    rows_in_slice,
    write_predictions,
)
from cnnlib.reports.schema import table_schema
from cnnlib.reports.write import write_report
from cnnlib.storage import files
from cnnlib.storage.parquet import parquet_bytes
from cnnlib.storage.publish import sha256_hex
from tests.scores import make_rows

COUNTS = [[8, 1, 2], [1, 9, 0], [0, 0, 0]]
eighths = st.integers(0, 8).map(lambda count: count / 8)  # so that ties are common


@pytest.fixture
def publish(tmp_path: Path, make_result: Any, write: Any) -> Callable[..., str]:
    """Writes a report whose predictions lie in two parts, the later rows first."""

    def run(counts: list[list[int]] = COUNTS) -> str:
        rows, report_id = make_rows(counts), make_result().report_id
        parts = [
            write_predictions(
                str(tmp_path),
                report_id,
                shard_index=shard,
                ids=rows.ids[where],
                labels=rows.labels[where],
                probabilities=rows.probabilities[where],
            )
            for shard, where in ((0, slice(9, None)), (1, slice(0, 9)))
        ]
        report_id = write(make_result(predictions=tuple(parts))).report_id
        return str(report_id)

    return run


def test_a_part_is_named_after_its_first_row_and_has_the_promised_columns(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"labels": [1, 0], "probabilities": [[0.25, 0.5, 0.25], [0.125, 0.25, 0.625]]}
    columns["slices"] = {
        "size=q1": np.array([True, False]),
        "size=q2": np.array([False, True]),
        "source=web": np.array([True, True]),
    }
    part = write_predictions(str(tmp_path), "abc", shard_index=1, ids=[500, 501], **columns)
    name = f"predictions/report_id=abc/part-00001-000000000500-{part.sha256[:16]}.parquet"
    assert (part.name, part.rows) == (name, 2)
    stored = pq.read_table(tmp_path / part.name)
    assert stored.schema.equals(table_schema("predictions"))
    assert stored.to_pylist() == [
        {
            "id": 500,
            "label": 1,
            "prediction": 1,
            "probability": 0.5,
            "top_classes": [1, 0, 2],
            "top_probabilities": [0.5, 0.25, 0.25],
            "slices": ["size=q1", "source=web"],
        },
        {
            "id": 501,
            "label": 0,
            "prediction": 2,
            "probability": 0.625,
            "top_classes": [2, 1, 0],
            "top_probabilities": [0.625, 0.25, 0.125],
            "slices": ["size=q2", "source=web"],
        },
    ]
    assert (rows_in_slice(stored, "size=q2") == [False, True]).all()  # type: ignore[union-attr]
    assert rows_in_slice(stored, "size=q3") is None


def test_predictions_of_an_earlier_version_tell_no_slices(tmp_path: Path, make_result: Any) -> None:
    rows, report_id = make_rows(COUNTS), make_result().report_id
    table = predictions_table(rows.ids, rows.labels, rows.probabilities)
    assert table["slices"].null_count == len(rows.ids), "nobody asked for slices"
    old = parquet_bytes(table.drop_columns(["slices"]))
    name = f"predictions/report_id={report_id}/part-00000.parquet"
    files.write_bytes(str(tmp_path / name), old)
    part = StoredTable(name=name, num_bytes=len(old), sha256=sha256_hex(old), rows=len(rows.ids))
    write_report(str(tmp_path), make_result(predictions=(part,)))
    found = read_predictions(str(tmp_path), report_id)
    assert found.schema.equals(table_schema("predictions"))
    assert rows_in_slice(found, "size=q2") is None


def test_a_part_of_other_numbers_does_not_touch_one_that_exists(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"shard_index": 0, "ids": [0], "labels": [0]}
    first, again, other = (
        write_predictions(str(tmp_path), "abc", **columns, probabilities=[row])
        for row in ([1, 0], [1, 0], [0, 1])
    )
    assert first == again != other
    for part, prediction in ((first, 0), (other, 1)):
        assert part.sha256 == sha256_hex((tmp_path / part.name).read_bytes())
        assert pq.read_table(tmp_path / part.name)["prediction"].to_pylist() == [prediction]


SECOND = [[9, 0, 2], [1, 9, 0], [0, 0, 0]]  # of the same rows, one more is right


@pytest.mark.parametrize("publishes_first", [0, 1])
def test_predictions_of_two_attempts_never_mix(
    tmp_path: Path, make_result: Any, write: Any, publishes_first: int
) -> None:
    attempts = []
    for counts in (COUNTS, SECOND):  # both have stored all predictions before either publishes
        rows = make_rows(counts)
        columns = {"ids": rows.ids, "labels": rows.labels, "probabilities": rows.probabilities}
        part = write_predictions(str(tmp_path), make_result().report_id, shard_index=0, **columns)
        attempts.append(make_result(counts=counts, predictions=(part,)))
    winner = attempts.pop(publishes_first)
    assert write(winner).created
    assert not write(attempts[0]).created
    table = read_predictions(str(tmp_path), winner.report_id)
    right = sum(row["label"] == row["prediction"] for row in table.to_pylist())
    assert right == winner.sums.confusion.correct == (17, 18)[publishes_first]
    # A reader of the folder, who does not know the manifest, finds the same rows.
    assert pq.read_table(tmp_path / "predictions")["id"].to_pylist() == table["id"].to_pylist()


def test_late_attempt_at_a_report_that_exists_leaves_no_predictions(
    tmp_path: Path, make_result: Any, write: Any, publish: Callable[..., str]
) -> None:
    report_id = publish()
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    late = write_predictions(
        str(tmp_path), report_id, shard_index=0, ids=[0], labels=[0], probabilities=[[0, 1]]
    )
    assert not write(make_result(predictions=(late,))).created
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_folder_in_which_nothing_may_be_deleted_keeps_its_report(
    tmp_path: Path,
    make_result: Any,
    write: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(uri: str) -> None:
        raise AccessError(f"Not permitted at {uri}.")

    result = make_result()
    write_predictions(
        str(tmp_path), result.report_id, shard_index=0, ids=[0], labels=[0], probabilities=[[0, 1]]
    )
    monkeypatch.setattr(files, "delete", refuse)
    assert write(result).created
    assert "predictions_of_another_attempt_stay" in capsys.readouterr().err


@given(npst.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 15)), elements=eighths))
def test_top_classes_are_those_of_a_stable_sort(probabilities: np.ndarray) -> None:
    rows = len(probabilities)
    table = predictions_table(np.arange(rows), np.zeros(rows, int), probabilities)
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :10]
    assert table["top_classes"].to_pylist() == top.tolist()
    assert table["prediction"].to_pylist() == probabilities.argmax(axis=1).tolist()
    assert table["top_probabilities"].to_pylist() == np.take_along_axis(probabilities, top, axis=1).tolist()


def test_all_parts_are_read_as_one_table_sorted_by_id(tmp_path: Path, publish: Callable[..., str]) -> None:
    table = read_predictions(str(tmp_path), publish())
    assert table.schema.equals(table_schema("predictions"))
    assert table["id"].to_pylist() == list(range(21))
    assert table["label"].to_pylist() == make_rows(COUNTS).labels.tolist()


def test_predictions_of_another_evaluation_are_refused(tmp_path: Path, publish: Callable[..., str]) -> None:
    report_id = publish([[9, 0, 2], [1, 9, 0], [0, 0, 0]])
    with pytest.raises(
        ReportError, match=r"Received 21 rows, 18 right, expected 21 and 17.*Delete all objects"
    ):
        read_predictions(str(tmp_path), report_id)


def test_part_that_was_changed_is_refused(tmp_path: Path, publish: Callable[..., str]) -> None:
    report_id = publish()
    part = next((tmp_path / "predictions" / f"report_id={report_id}").iterdir())
    part.write_bytes(part.read_bytes() + b"!")
    with pytest.raises(ReportError, match="does not match its manifest"):
        read_predictions(str(tmp_path), report_id)


def test_report_without_predictions_says_why(tmp_path: Path, make_result: Any, write: Any) -> None:
    report_id = write(make_result()).report_id
    with pytest.raises(ReportError, match="has no predictions: it was evaluated with --no-predictions"):
        read_predictions(str(tmp_path), report_id)


def test_no_such_report_has_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No report 'abc'"):
        read_predictions(str(tmp_path), "abc")
