"""Tests the gauges of the newest reports, parsed by Prometheus' own client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cnnlib.errors import ReportError
from cnnlib.views.export.prometheus import MAX_SERIES_CLASSES, prometheus_text
from tests.report_folders import CLASS_NAMES, write_gates, write_metrics

DEMO = {
    "run": "demo",
    "model": "small-cnn",
    "dataset": "fashion-mnist",
    "split": "test",
    "model_uri": "/runs/demo",
    "dataset_uri": "/data/fashion-mnist",
    "tta": "",
}
Series = dict[str, list[tuple[dict[str, str], float]]]


def read(reports: Path, limit: int = 20) -> Series:
    """Returns every series: gauge -> its labels and values."""
    families = list(text_string_to_metric_families(prometheus_text(str(reports), limit)))
    assert {family.type for family in families} == {"gauge"}
    return {
        family.name.removeprefix("cnnlib_report_"): [(each.labels, each.value) for each in family.samples]
        for family in families
    }


def test_metrics_are_those_of_the_whole_split(tmp_path: Path) -> None:
    metrics = {"macro_f1": 0.75, "ece": 0.125, "loss": 0.25}
    write_metrics(str(tmp_path), minute=5, correct=80, overall=metrics)
    series = read(tmp_path)
    for gauge, value in {
        "accuracy_ratio": 0.8,
        "macro_f1_ratio": 0.75,
        "calibration_error_ratio": 0.125,
        "loss_nats": 0.25,
        "rows": 100,
        "images_per_second": 50,
        "checkpoint_epoch": 5,
        "timestamp_seconds": 1795327500,  # date -u -d '2026-11-22 06:05' +%s
    }.items():
        assert series[gauge] == [(DEMO, value)], gauge
    assert series["accuracy_low_ratio"][0][1] < 0.8 < series["accuracy_high_ratio"][0][1]


def test_every_class_has_its_series(tmp_path: Path) -> None:
    write_metrics(str(tmp_path), classes=[{"accuracy": 0.9, "f1": 0.5}, {"accuracy": 0.7}])
    series = read(tmp_path)
    first, second = ({**DEMO, "class": name} for name in CLASS_NAMES)
    assert series["class_accuracy_ratio"] == [(first, 0.9), (second, 0.7)]
    assert series["class_rows"] == [(first, 50), (second, 50)]
    assert series["class_f1_ratio"] == [(first, 0.5)]  # null has no series: 0 would be a value


def test_name_with_quotes_backslashes_and_lines_comes_back_as_it_was(tmp_path: Path) -> None:
    run = 'a "b" \\ c\nd'
    write_metrics(str(tmp_path), run=run)
    assert read(tmp_path)["accuracy_ratio"][0][0]["run"] == run


def test_newest_report_of_a_run_continues_its_series(tmp_path: Path) -> None:
    write_metrics(str(tmp_path), minute=2, correct=90)
    write_metrics(str(tmp_path), minute=1, correct=10)
    write_metrics(str(tmp_path), minute=1, correct=20, run="other")
    write_metrics(str(tmp_path), minute=1, correct=30, split="extra")
    found = {(labels["run"], labels["split"]): value for labels, value in read(tmp_path)["accuracy_ratio"]}
    assert found == {("demo", "test"): 0.9, ("other", "test"): 0.2, ("demo", "extra"): 0.3}


def test_the_model_that_was_trained_longest_is_shown_whatever_was_evaluated_last(tmp_path: Path) -> None:
    """Two jobs that share the pending checkpoints end in any order."""
    monday, tuesday = (f"2026-11-{day}T06:00:00+00:00" for day in (22, 23))
    write_metrics(str(tmp_path), minute=1, correct=90, checkpoint_epoch=10, run_started_at=monday)
    write_metrics(str(tmp_path), minute=2, correct=50, checkpoint_epoch=3, run_started_at=monday)
    assert read(tmp_path)["accuracy_ratio"] == [(DEMO, 0.9)]
    write_metrics(str(tmp_path), minute=0, correct=20, checkpoint_epoch=1, run_started_at=tuesday)
    assert read(tmp_path)["accuracy_ratio"] == [(DEMO, 0.2)]
    assert read(tmp_path)["checkpoint_epoch"] == [(DEMO, 1)]


def test_augmented_predictions_have_series_of_their_own(tmp_path: Path) -> None:
    write_metrics(str(tmp_path), minute=1, correct=80)
    write_metrics(str(tmp_path), minute=2, correct=90, evaluation={"top_k": 1, "tta": "flips"})
    found = {labels["tta"]: value for labels, value in read(tmp_path)["accuracy_ratio"]}
    assert found == {"": 0.8, "flips": 0.9}


def test_datasets_and_runs_of_one_name_have_series_of_their_own(tmp_path: Path) -> None:
    write_metrics(str(tmp_path), minute=1, correct=90)
    write_metrics(str(tmp_path), minute=2, correct=10, dataset_uri="/other/fashion-mnist")
    write_metrics(
        str(tmp_path), minute=3, correct=20, checkpoint_uri="s3://b/runs/demo/checkpoints/1/m.keras"
    )
    found = {
        (labels["model_uri"], labels["dataset_uri"]): value
        for labels, value in read(tmp_path)["accuracy_ratio"]
    }
    assert found == {
        ("/runs/demo", "/data/fashion-mnist"): 0.9,
        ("/runs/demo", "/other/fashion-mnist"): 0.1,
        ("s3://b/runs/demo", "/data/fashion-mnist"): 0.2,
    }


def test_model_without_a_run_has_an_empty_label(tmp_path: Path) -> None:
    write_metrics(str(tmp_path), run=None, model=None, checkpoint_epoch=None)
    series = read(tmp_path)
    # Prometheus treats an empty label as a missing one.
    assert series["accuracy_ratio"][0][0] == DEMO | {
        "run": "",
        "model": "",
        "model_uri": "/runs/demo/checkpoints/epoch-0000",
    }
    assert series["checkpoint_epoch"] == []


def test_limit_keeps_the_newest(tmp_path: Path) -> None:
    for minute in range(4):
        write_metrics(str(tmp_path), minute=minute, run=f"run {minute}")
    runs = [labels["run"] for labels, _ in read(tmp_path, limit=2)["accuracy_ratio"]]
    assert runs == ["run 3", "run 2"]


def test_report_with_too_many_classes_has_no_series_per_class(tmp_path: Path) -> None:
    count = MAX_SERIES_CLASSES + 1
    names = tuple(f"class {index}" for index in range(count))
    write_metrics(str(tmp_path), class_names=names, classes=[{"accuracy": 0.5}] * count)
    series = read(tmp_path)
    assert series["class_accuracy_ratio"] == []
    assert len(series["accuracy_ratio"]) == 1


@pytest.mark.parametrize(
    ("verdicts", "value"),
    [(["pass"], 0), (["pass", "inconclusive"], 1), (["inconclusive", "fail", "pass"], 2)],
)
def test_verdict_of_gates_is_the_worst(tmp_path: Path, verdicts: list[str], value: int) -> None:
    name = write_metrics(str(tmp_path))
    write_gates(str(tmp_path), name, verdicts, minute=1)
    assert read(tmp_path)["gate_verdict"] == [(DEMO, value)]


def test_gates_that_were_evaluated_last_count(tmp_path: Path) -> None:
    name = write_metrics(str(tmp_path))
    write_gates(str(tmp_path), name, ["pass"], minute=5, digest="aa")
    write_gates(str(tmp_path), name, ["fail"], minute=4, digest="bb")
    assert read(tmp_path)["gate_verdict"] == [(DEMO, 0)]


def test_report_without_gates_has_no_verdict(tmp_path: Path) -> None:
    write_gates(str(tmp_path), write_metrics(str(tmp_path), minute=1, run="gated"), ["fail"], minute=1)
    write_metrics(str(tmp_path), minute=2)
    assert [labels["run"] for labels, _ in read(tmp_path)["gate_verdict"]] == ["gated"]


def test_names_and_help_are_as_prometheus_asks(tmp_path: Path) -> None:
    write_metrics(str(tmp_path))
    text = prometheus_text(str(tmp_path), 1)
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"cnnlib_report(_[a-z0-9]+)+", family.name)
        assert family.documentation.endswith(".")
    assert not re.search(r" \d+\.?\d* \d{10,}$", text, re.MULTILINE), "The textfile collector takes no times."
    assert text.endswith("\n")


def test_folder_without_reports_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No reports in"):
        prometheus_text(str(tmp_path), 1)
