"""Reports are found by id, by the start of an id or by age, and only what a manifest lists is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cnnlib.errors import ReportError
from cnnlib.metrics.intervals import proportion
from cnnlib.reports.manifest import find_manifest
from cnnlib.reports.read import list_reports, read_report, read_table, resolve
from cnnlib.reports.result import EvaluationResult
from cnnlib.reports.schema import table_schema
from cnnlib.storage import publish
from cnnlib.storage.parquet import parquet_bytes


@pytest.fixture
def three(make_result: Any, write: Any) -> list[str]:
    """Writes three reports and returns their ids, oldest first."""
    return [write(make_result(checkpoint_digest=f"d{index}", minute=index)).report_id for index in (1, 2, 3)]


def publish_as(folder: Path, report_id: str, **changes: Any) -> None:
    """Writes a manifest under a chosen id."""
    path = folder / "manifests" / f"{report_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"report_id": report_id, **changes}))


def test_reports_are_listed_newest_first(tmp_path: Path, three: list[str]) -> None:
    assert [record.report_id for record in list_reports(str(tmp_path))] == three[::-1]


def test_record_says_what_the_manifest_says(tmp_path: Path, make_result: Any, write: Any) -> None:
    result: EvaluationResult = make_result()
    write(result)
    [record] = list_reports(str(tmp_path))
    assert (record.report_id, record.subject) == (result.report_id, result.subject)
    assert (record.evaluated_at, record.seconds) == (result.evaluated_at, result.seconds)
    assert (record.rows, record.correct, record.accuracy) == (21, 17, proportion(17, 21))
    assert (record.top_k, record.top_k_accuracy, record.version) == (2, 1.0, 3)
    assert record.loss == result.sums.loss_sum / 21
    assert {name: table.rows for name, table in record.tables.items()} == {
        "overall": 1,
        "per_class": 3,
        "confusion": 9,
        "calibration": 60,
        "activations": 0,
    }
    assert record.predictions is None


def test_record_as_a_row_agrees_with_the_table_overall(tmp_path: Path, make_result: Any, write: Any) -> None:
    written = write(make_result())
    [stored] = read_table(str(tmp_path), "overall", [written.report_id]).to_pylist()
    [record] = list_reports(str(tmp_path))
    row = record.to_row()
    assert row == {name: stored[name] for name in row}
    assert row.keys() >= {"report_id", "run", "split", "rows", "accuracy_low", "loss", "seconds"}


def test_report_without_a_manifest_does_not_exist(tmp_path: Path, three: list[str]) -> None:
    (tmp_path / "manifests" / f"{three[2]}.json").unlink()
    assert [record.report_id for record in list_reports(str(tmp_path))] == [three[1], three[0]]
    assert find_manifest(str(tmp_path), three[2]) is None
    assert resolve(str(tmp_path), "latest") == three[1]
    with pytest.raises(ReportError, match="No report"):
        read_report(str(tmp_path), three[2])
    with pytest.raises(ReportError, match="No report"):
        read_table(str(tmp_path), "per_class", [three[2]])


def test_latest_and_previous_are_names(tmp_path: Path, three: list[str]) -> None:
    assert resolve(str(tmp_path), "latest") == three[2]
    assert resolve(str(tmp_path), "previous") == three[1]


def test_only_report_has_no_previous_one(tmp_path: Path, make_result: Any, write: Any) -> None:
    write(make_result())
    with pytest.raises(ReportError, match=r"No previous report in .* it holds 1"):
        resolve(str(tmp_path), "previous")


def test_id_may_be_shortened_while_it_is_unique(tmp_path: Path) -> None:
    for report_id in ("abc0000000000000", "abd0000000000000", "f000000000000000"):
        publish_as(tmp_path, report_id)
    assert resolve(str(tmp_path), "f") == "f000000000000000"
    assert resolve(str(tmp_path), "abc") == "abc0000000000000"
    assert resolve(str(tmp_path), "abd0000000000000") == "abd0000000000000"


def test_short_id_of_several_reports_names_the_candidates(tmp_path: Path) -> None:
    for index in range(7):
        publish_as(tmp_path, f"ab{index}")
    with pytest.raises(
        ReportError, match=r"'ab' is short for 7 reports: ab0, ab1, ab2, ab3, ab4, …\. Give more"
    ):
        resolve(str(tmp_path), "ab")


def test_unknown_id_names_the_nearest(tmp_path: Path) -> None:
    publish_as(tmp_path, "abc0")
    publish_as(tmp_path, "fff0")
    with pytest.raises(ReportError, match=r"No report 'abd0' in .* Did you mean 'abc0'\? Known: abc0, fff0"):
        resolve(str(tmp_path), "abd0")


def test_unknown_id_among_many_says_how_many_there_are(tmp_path: Path) -> None:
    for index in range(6):
        publish_as(tmp_path, f"ab{index}")
    with pytest.raises(ReportError, match="It holds 6 others"):
        resolve(str(tmp_path), "f")


@pytest.mark.parametrize("name", ["latest", "previous", "abc", ""])
def test_folder_without_reports_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReportError, match=r"No reports? .*(evaluate|holds none)"):
        resolve(str(tmp_path), name)


def test_tables_of_several_reports_are_read_as_one_in_the_order_asked_for(
    tmp_path: Path, three: list[str]
) -> None:
    table = read_table(str(tmp_path), "per_class", [three[2], three[0]])
    assert table.schema.equals(table_schema("per_class"))
    assert table["report_id"].to_pylist() == [three[2]] * 3 + [three[0]] * 3


def test_report_has_its_classes_in_order(tmp_path: Path, three: list[str]) -> None:
    report = read_report(str(tmp_path), three[0])
    assert [row["class_name"] for row in report.classes] == ["Coat", "Bag", "Ankle boot"]


def test_slices_lie_beside_the_whole_split(tmp_path: Path, make_result: Any, write: Any) -> None:
    result = make_result(slices={"source=web": [[8, 1, 0], [0, 0, 0], [0, 0, 0]]})
    report = read_report(str(tmp_path), write(result).report_id)
    assert (report.overall["slice"], report.overall["rows"], len(report.classes)) == (None, 21, 3)
    assert [(row["slice"], row["rows"]) for row in report.slices] == [("source=web", 9)]
    assert [row["support"] for row in report.slice_classes["source=web"]] == [9, 0, 0]


def test_report_of_version_one_is_still_read(tmp_path: Path, make_result: Any, write: Any) -> None:
    old, new = write_version_1(tmp_path), write(make_result()).report_id
    assert [record.report_id for record in list_reports(str(tmp_path))] == [new, old]
    report = read_report(str(tmp_path), old)
    assert (report.record.version, report.record.predictions) == (1, None)
    assert (report.record.accuracy, report.overall["rows"]) == (proportion(3, 4), 4)
    assert [row["accuracy"] for row in report.classes] == [1.0, 0.5]
    assert (report.overall["macro_f1"], report.classes[0]["auc"], report.slices) == (None, None, [])
    both = read_table(str(tmp_path), "per_class", [old, new])
    assert both.column_names == table_schema("per_class").names
    assert both["report_id"].to_pylist() == [old] * 2 + [new] * 3
    with pytest.raises(ReportError, match=f"Report {old} has no table calibration: it has version 1"):
        read_table(str(tmp_path), "calibration", [old])


def write_version_1(folder: Path) -> str:
    """Writes a report of version 1: fewer columns, no slices, three tables."""
    report_id = "01d0000000000001"
    keys = {
        "report_id": report_id, "evaluated_at": datetime(2026, 1, 1, tzinfo=UTC), "run": "old", "model": "seed-cnn",
        "checkpoint_uri": "/c", "checkpoint_step": 1, "checkpoint_epoch": 1, "checkpoint_digest": "d",
        "dataset_uri": "/data", "dataset_fingerprint": "f", "split": "test",
    }  # fmt: skip
    accuracy = proportion(3, 4)
    summary = {
        "rows": 4, "correct": 3, "accuracy": accuracy.fraction, "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high, "loss": 0.5, "top_k": 1, "top_k_accuracy": 0.75,
    }  # fmt: skip
    tables: dict[str, list[dict[str, Any]]] = {
        "overall": [{**keys, **summary, "seconds": 1.0, "images_per_s": 4.0, "python_version": "3.11"}],
        "per_class": [
            {
                **keys, "class_index": index, "class_name": name, "support": 2, "correct": correct, "predicted": 2,
                "accuracy": correct / 2, "accuracy_low": 0.1, "accuracy_high": 1.0, "precision": 1.0, "f1": 0.5,
                "most_confused_with": None, "most_confused_count": 0,
            }
            for index, name, correct in ((0, "Coat", 2), (1, "Bag", 1))
        ],
        "confusion": [{"report_id": report_id, "true": 0, "predicted": 0, "count": 4}],
    }  # fmt: skip
    objects = {}
    for name, rows in tables.items():
        schema = pa.schema([field for field in table_schema(name) if field.name in rows[0]])
        data = parquet_bytes(pa.Table.from_pylist(rows, schema=schema))
        path = folder / name / f"{report_id}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        objects[name] = {
            "name": f"{name}/{report_id}.parquet", "bytes": len(data), "sha256": publish.sha256_hex(data),
            "rows": len(rows),
        }  # fmt: skip
    subject = {
        **{key: value for key, value in keys.items() if key not in ("report_id", "evaluated_at")},
        "evaluation": {"top_k": 1}, "class_names": ["Coat", "Bag"],
    }  # fmt: skip
    publish_as(
        folder, report_id, report_version=1, subject=subject, evaluated_at="2026-01-01T00:00:00+00:00",
        seconds=1.0, versions={}, objects=objects, **summary,
    )  # fmt: skip
    return report_id


def test_table_that_was_tampered_with_is_refused(tmp_path: Path, three: list[str]) -> None:
    source, target = (tmp_path / "per_class" / f"{report_id}.parquet" for report_id in three[:2])
    target.write_bytes(source.read_bytes())
    with pytest.raises(ReportError, match="does not match its manifest"):
        read_report(str(tmp_path), three[1])


def test_report_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    publish_as(tmp_path, "abc", report_version=99)
    with pytest.raises(ReportError, match=r"version 99.* Update cnnlib"):
        list_reports(str(tmp_path))


def test_json_that_is_no_report_is_refused(tmp_path: Path) -> None:
    publish_as(tmp_path, "abc", rows=3)
    with pytest.raises(ReportError, match="Not the manifest of a report; it holds report_id, rows"):
        list_reports(str(tmp_path))
