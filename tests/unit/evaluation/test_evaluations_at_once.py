"""Jobs that evaluate the same at once print the same about its report, and one of them says that it wrote it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnnlib.dataset.reader import read_positions
from cnnlib.evaluation import run
from cnnlib.storage import files, layout
from jobs.evaluate import main
from tests.datasets import write_dataset_without_ray

JOBS = 3
ROOT = Path(__file__).parents[3]


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Evaluates predictions of the test rows, with a gate; the folder of reports follows."""
    data = str(tmp_path / "data")
    manifest = write_dataset_without_ray(data)
    rows = read_positions(data, manifest, manifest.split("test"), np.arange(manifest.split("test").rows))
    pd.DataFrame({"id": rows.ids, "prediction": rows.labels}).to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "gate.toml").write_text("[min_accuracy]\noverall = 0.2\n")
    words = ["--predictions", str(tmp_path / "p.csv"), "--gate", str(tmp_path / "gate.toml")]
    return [*words, "--data", data, "--json", "--reports"]


def without_new(result: dict[str, Any]) -> dict[str, Any]:
    """Returns a result without the one thing that jobs may differ in."""
    return {**result, "reports": [{**row, "new": None} for row in result["reports"]]}


def test_processes_that_evaluate_the_same_at_once_print_the_same(command: list[str], tmp_path: Path) -> None:
    reports = str(tmp_path / "reports")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "jobs.evaluate", *command, reports],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "HOME": str(tmp_path), "RAY_ADDRESS": "127.0.0.1:1"},  # no cluster is needed
        )
        for _ in range(JOBS)
    ]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * JOBS, ended
    results = [json.loads(out) for out, _ in ended]
    assert [without_new(each) for each in results] == [without_new(results[0])] * JOBS
    assert sum(row["new"] for each in results for row in each["reports"]) == 1
    assert len(files.list_objects(layout.report_manifests(reports))) == 1


def test_a_job_that_scored_what_another_one_wrote_first_says_so(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, reports = tmp_path / "reports-first", tmp_path / "reports"

    def evaluate(folder: Path) -> dict[str, Any]:
        assert main([*command, str(folder)]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return {**result, "reports_uri": None}

    one = evaluate(first)
    score = run.score_predictions

    def score_too_late(*given: Any) -> Any:
        scores = score(*given)
        shutil.copytree(first, reports, dirs_exist_ok=True)  # the other job writes its report meanwhile
        return scores

    monkeypatch.setattr(run, "score_predictions", score_too_late)
    other = evaluate(reports)
    assert without_new(other) == without_new(one)
    assert [row["new"] for each in (one, other) for row in each["reports"]] == [True, False]
