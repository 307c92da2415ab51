"""Tests `jobs.evaluate --gate` on a real model: the report, the verdict and the exit code that a pipeline reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cnnlib.gates.verdicts import read_gates
from cnnlib.runs.record import find_run_record
from tests.integration.conftest import JobResult, RunJob


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run of a few steps, the flags that evaluate it, and the folder of its reports."""

    folder: Path
    flags: tuple[str, ...]
    reports: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: str, on_cluster: RunJob) -> Trained:
    folder = tmp_path_factory.mktemp("gates")
    size = ["--epochs", 2, "--steps-per-epoch", 4, "--batch-size", 32]
    on_cluster("train", "seed", "--data", tiny_dataset, "--runs", folder / "runs", "--name", "few", *size)
    reports = str(folder / "reports")
    return Trained(folder=folder, flags=("--data", tiny_dataset, "--reports", reports), reports=reports)


def write_gates(trained: Trained, text: str) -> Path:
    path = trained.folder / "gates.toml"
    path.write_text(text)
    return path


def last_line(done: JobResult) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_gates_decide_the_exit_code_and_a_failed_one_leaves_its_report(
    trained: Trained, on_cluster: RunJob
) -> None:
    first, second = (
        ("--checkpoint", f"{trained.folder}/runs/few@{epoch}", *trained.flags) for epoch in (1, 2)
    )
    strict = write_gates(trained, "[min_accuracy]\noverall = 0.999\n[max_drop]\noverall = 0.5")
    failed = last_line(on_cluster("evaluate", *first, "--gate", strict, expect=3))
    assert [check["verdict"] for check in failed["gates"][0]["checks"]] == ["fail", "pass"]
    assert failed["gates"][0]["checks"][1]["reason"].startswith("no earlier report")
    report_id = failed["reports"][0]["report_id"]
    shown = on_cluster("report", trained.reports, report_id)
    assert shown.result["report"]["rows"] == failed["reports"][0]["rows"]
    assert [row["verdict"] for row in read_gates(trained.reports, report_id)] == ["fail", "pass"]

    lenient = write_gates(trained, "[max_drop]\noverall = 0.99")
    passed = on_cluster("evaluate", *second, "--gate", lenient).result
    [check] = passed["gates"][0]["checks"]
    assert (check["verdict"], check["baseline_id"]) == ("pass", report_id)
    assert "not paired" not in check["reason"], "predictions are stored by default"


def test_recipe_of_the_run_has_gates_that_a_few_steps_do_not_pass(
    trained: Trained, on_cluster: RunJob
) -> None:
    command = ("--checkpoint", f"{trained.folder}/runs/few", *trained.flags)
    on_cluster("evaluate", *command)
    result = last_line(on_cluster("evaluate", *command, "--gate", "recipe", expect=3))
    assert not result["reports"][0]["new"], "an existing report is gated without scoring again"
    assert result["gates"][0]["verdict"] == "fail"
    record = find_run_record(f"{trained.folder}/runs/few")
    assert record is not None
    assert record["recipe"] == "seed"


def test_reports_of_a_run_are_compared_row_by_row(trained: Trained, on_cluster: RunJob) -> None:
    for epoch in (1, 2):
        on_cluster("evaluate", "--checkpoint", f"{trained.folder}/runs/few@{epoch}", *trained.flags)
    result = on_cluster("report", trained.reports, "previous", "latest").result
    assert result["unpaired_because"] is None
    assert result["overall"]["points"] == pytest.approx(
        100 * (result["b"]["accuracy"] - result["a"]["accuracy"])
    )
    lost, won = (result["overall"][flips]["total"] for flips in ("right_to_wrong", "wrong_to_right"))
    assert result["b"]["correct"] - result["a"]["correct"] == won - lost
