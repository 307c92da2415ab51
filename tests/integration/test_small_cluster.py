"""Two jobs at once on a cluster of two CPUs, and predictors that are killed: nothing waits for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cnnlib.reports.read import list_reports
from tests.integration.conftest import run_job, run_small_head

CPUS = 2


def test_two_evaluations_and_a_training_at_once_take_turns_on_two_cpus(
    tmp_path: Path, tiny_dataset: str
) -> None:
    train = [
        "dnn",
        "--data",
        tiny_dataset,
        "--runs",
        tmp_path / "runs",
        "--epochs",
        1,
        "--steps-per-epoch",
        2,
    ]
    with run_small_head(tmp_path, CPUS) as environment:
        for name in ("a", "b"):
            trained = run_job("train", [*train, "--name", name], environment)
            assert trained.code == 0, trained.stderr[-4000:]
        jobs = [
            (
                "evaluate",
                [
                    "--checkpoint",
                    tmp_path / "runs" / name,
                    "--data",
                    tiny_dataset,
                    "--reports",
                    tmp_path / "r",
                ],
            )
            for name in ("a", "b")
        ]
        jobs.append(("train", [*train, "--name", "c"]))
        with ThreadPoolExecutor(len(jobs)) as pool:
            done = list(pool.map(lambda job: run_job(*job, environment), jobs))
        impatient = run_job(
            "evaluate", [*jobs[0][1], "--top-k", 2, "--actors", 2, "--wait-when-busy-s", 1], environment
        )
    assert [each.code for each in done] == [0, 0, 0], "".join(each.stderr[-3000:] for each in done)
    said = (
        "waiting for 1 predictors of 1 CPU each and one CPU to read the data (",
        "waiting for 1 workers of 1 CPU each",
    )
    assert any(each.stderr.count(line) for each in done for line in said), (
        "nobody waited, so nothing was tested"
    )
    assert len(list_reports(str(tmp_path / "r"))) == 2
    # What can never fit is an error at once.
    assert impatient.code == 2
    assert "The cluster cannot provide 2 predictors of 1 CPU each" in impatient.stderr


def test_killed_predictor_is_survived_once_and_explained_at_last_and_no_gpu_is_seen_unasked(
    tmp_path: Path,
) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.killed_predictors", tmp_path / "killed"],
        env={**inherited, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["gpus_of_none"], found["gpus_of_one"]) == ("", "0")
    assert found["killed_once"] == 8
    assert found["killed_always"].startswith(
        "ClusterError: A predictor was killed again and again, most often because"
    )
    assert "Try a smaller --batch-size, fewer predictors (--actors)" in found["killed_always"]
