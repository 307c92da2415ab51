"""Tests jobs without a cluster: a job starts a Ray of its own, workers share cores, a dead worker costs one epoch."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from cnnlib.runs import checkpoints as runs
from cnnlib.runs.history import decode_history
from cnnlib.storage import files, layout
from tests.fashion import TEST_ROWS, TRAIN_ROWS
from tests.integration.conftest import (
    JobResult,
    command_of_job,
    result_of_job,
    run_job,
    run_job_on_terminal,
)
from tests.models import DIE_WHEN
from tests.process_tree import descendants

WORKERS, BATCH = 3, 24
STEPS = TRAIN_ROWS // BATCH
NOISE = (
    "absl::InitializeLog",
    "oneDNN custom operations",
    "Could not find cuda drivers",
    "fontManager",
    "core_worker.cc",
    "Progress bars disabled",
)
"""Parts of what TensorFlow, matplotlib and Ray print by default in every job, though nothing is wrong."""
HELPERS = ("dashboard/dashboard.py", "monitor.py", "_StatsActor", "ActorLocation", "_AutoscalingCoordinator")
"""Parts of the commands of processes that Ray starts beside those that work; log_monitor.py forwards lines."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_a_run_whose_worker_dies_continues_from_its_checkpoint(
    tiny_idx: Path, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("local")
    data, runs_uri, reports = base / "data", base / "runs", base / "reports"
    environment = {"HOME": str(home)}
    prepared = run_job("prepare", ["idx", tiny_idx, "--output", data, "--shard-mib", 1], environment)
    assert prepared.result["rows"] == {"train": TRAIN_ROWS, "test": TEST_ROWS}, prepared.stderr

    first = Path(layout.checkpoint_uri(layout.run_uri(str(runs_uri), "mortal"), 1)) / layout.MANIFEST
    command = [
        "dnn",
        "--data",
        data,
        "--runs",
        runs_uri,
        "--name",
        "mortal",
        "--model",
        "tests.models:build_mortal",
    ]
    train = [*command, "--workers", WORKERS, "--batch-size", BATCH, "--epochs", 2, "--loop.steps-per-call", 5]
    trained = run_job_on_terminal("train", train, environment | {DIE_WHEN: str(first)})
    assert trained.code == 0, trained.stderr[-6000:]
    assert "the workers share the cores" in trained.stderr
    died = first.parent / "died"
    assert died.exists(), "no worker died, so nothing was tested"
    # The last output of a worker may be lost with it, so the history must show that the first epoch was not repeated.
    first_epoch, second_epoch = decode_history(files.read_bytes(trained.result["history"]))
    assert first_epoch.time.timestamp() <= died.stat().st_mtime <= second_epoch.time.timestamp()
    assert re.search(r"epoch 1/2 loss [^|]*images/s[^|]*%\|", trained.stderr), "no progress bar"
    assert "Reporting training result" not in trained.stderr, "Ray repeats every report"
    # Ray's core reports the worker that died.
    assert [noise for noise in NOISE if noise in trained.stderr and noise != "core_worker.cc"] == []
    assert [each.epoch for each in runs.list_checkpoints(trained.result["run"])] == [1, 2]
    assert [each.rows for each in decode_history(files.read_bytes(trained.result["history"]))] == [
        STEPS * BATCH
    ] * 2

    evaluated, seen = watch_job(
        "evaluate",
        ["--checkpoint", f"{runs_uri}/mortal@best", "--data", data, "--reports", reports],
        environment,
        base,
    )
    assert evaluated.code == 0, evaluated.stderr[-6000:]
    assert any("MapWorker(MapBatches(Predictor" in command for command in seen), seen
    kept = [command for command in seen if "log_monitor.py" not in command]
    assert [command for command in kept if any(helper in command for helper in HELPERS)] == []
    assert [row["rows"] for row in evaluated.result["reports"]] == [TEST_ROWS]
    assert re.search(rf"^score rows=\d+ of={TEST_ROWS} images_per_s=", evaluated.stderr, re.M), "no progress"
    assert [noise for noise in NOISE if noise in evaluated.stderr] == []
    assert not (home / ".ray").exists(), "a token file was left in HOME"


def watch_job(
    job: str, arguments: list[object], environment: dict[str, str], folder: Path
) -> tuple[JobResult, set[str]]:
    """Runs a job as `run_job` does; returns also the commands of all processes that were seen below it."""
    out, err, seen = folder / "stdout", folder / "stderr", set[str]()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        command = command_of_job(job, [str(each) for each in arguments], environment)
        process = subprocess.Popen(**command, stdout=stdout, stderr=stderr)
        while process.poll() is None:
            seen |= {each.command for each in descendants(process.pid)}
            time.sleep(0.2)
    return result_of_job(process.returncode, out.read_text(), err.read_text()), seen
