"""Tests jobs that are submitted to a running head by `ray job submit`, and by jobs.submit, which schedulers call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cnnlib.runs import checkpoints as runs
from tests.fashion import CLASSES, TEST_ROWS
from tests.integration.conftest import Cluster

REPOSITORY = Path(__file__).parents[2]
# On a real cluster it is `python`; on this machine, `python` may be another interpreter.
PYTHON = sys.executable
TIMEOUT_S = 300


def run(cluster: Cluster, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a client of the cluster, which learns the address from its command line only."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=REPOSITORY,
        env={**inherited, **cluster.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


def submit(
    cluster: Cluster, *words: object, address: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs jobs.submit with addresses in its environment that lead elsewhere: its --address must win."""
    elsewhere = "http://127.0.0.1:9"
    environment |= {"RAY_ADDRESS": elsewhere, "RAY_API_SERVER_ADDRESS": elsewhere}
    command = [PYTHON, "-m", "jobs.submit", "--address", address or cluster.dashboard_url]
    return run(cluster, *command, *words, **environment)


def ray_job_submit(cluster: Cluster, *words: object) -> subprocess.CompletedProcess[str]:
    """Runs Ray's own command."""
    ray = Path(PYTHON).parent / "ray"
    return run(cluster, ray, "job", "submit", "--address", cluster.dashboard_url, *words)


def job_info(cluster: Cluster, submission_id: str) -> Any:
    """Returns what the head knows of a job."""
    headers = {"Authorization": f"Bearer {cluster.environment['RAY_AUTH_TOKEN']}"}
    request = urllib.request.Request(f"{cluster.dashboard_url}/api/jobs/{submission_id}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git does not ignore, with .gitignore, by which Ray decides what it uploads."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    folder = tmp_path_factory.mktemp("checkout")
    for name in filter(None, names.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def runs_uri(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, checkout: Path, tiny_dataset: str
) -> str:
    """A folder of runs with one in it, trained by `ray job submit`."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["--submission-id", "train", "--working-dir", checkout, "--", PYTHON, "-m", "jobs.train", "dnn"]
    flags = ["--epochs", 1, "--steps-per-epoch", 2, "--batch-size", 16, "--json"]
    done = ray_job_submit(
        cluster, *words, "--data", tiny_dataset, "--runs", folder, "--name", "submitted", *flags
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return str(folder)


def test_ray_job_submit_trains_with_the_uploaded_code(cluster: Cluster, runs_uri: str) -> None:
    info = job_info(cluster, "train")
    assert (info["status"], info["driver_exit_code"]) == ("SUCCEEDED", 0)
    assert info["runtime_env"]["working_dir"].startswith("gcs://")
    [checkpoint] = runs.list_checkpoints(f"{runs_uri}/submitted")
    assert (checkpoint.epoch, checkpoint.step, checkpoint.model) == (1, 2, "dnn")
    assert Path(checkpoint.model_uri).is_file()


def test_ray_job_submit_evaluates(
    cluster: Cluster, runs_uri: str, checkout: Path, tiny_dataset: str, tmp_path: Path
) -> None:
    words = ["--working-dir", checkout, "--", PYTHON, "-m", "jobs.evaluate", "--data", tiny_dataset]
    done = ray_job_submit(
        cluster, *words, "--checkpoint", f"{runs_uri}/submitted@best", "--reports", tmp_path, "--json"
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    [manifest] = (tmp_path / "manifests").glob("*.json")
    classes = pq.read_table(tmp_path / "per_class" / f"{manifest.stem}.parquet").to_pylist()
    assert len(classes) == CLASSES
    assert sum(row["support"] for row in classes) == TEST_ROWS
    assert {row["checkpoint_step"] for row in classes} == {2}


def test_submit_exits_as_the_job_does_and_runs_an_id_once(cluster: Cluster) -> None:
    # No --working-dir: the code is the cluster's.
    words = ["--submission-id", "slot-1", "--json", "--", PYTHON, "-m", "jobs.train", "sed"]
    first = submit(cluster, *words, "--data", "d", "--name", "n")
    assert first.returncode == 2, first.stderr
    assert json.loads(first.stdout) == {"submission_id": "slot-1", "status": "FAILED", "exit_code": 2}
    # The message of the job itself, once.
    assert first.stderr.count("error: Unknown recipe 'sed'. Did you mean 'seed'?") == 1
    started = job_info(cluster, "slot-1")["start_time"]

    again = submit(cluster, *words, "--data", "d", "--name", "n")
    assert (again.returncode, again.stdout) == (2, first.stdout)
    assert "attached" in again.stderr
    assert job_info(cluster, "slot-1")["start_time"] == started

    other = submit(cluster, "--submission-id", "slot-1", "--", "true")
    assert (other.returncode, other.stdout) == (2, "")
    assert "slot-1 with another command" in other.stderr


def test_submit_stops_the_job_at_the_timeout_and_shows_no_secret(cluster: Cluster) -> None:
    words = ["--submission-id", "slow", "--timeout-s", "8", "--env", "GREETING=hello", "SECRET", "--json"]
    command = ["sh", "-c", 'echo "$GREETING ${#SECRET}"; sleep 600']
    done = submit(cluster, *words, "--", *command, SECRET="correct horse")
    assert (done.returncode, done.stdout) == (1, "")
    assert "hello 13\n" in done.stderr
    assert done.stderr.endswith("error: The job slow did not end within 8 s and was stopped.\n")
    assert "correct horse" not in done.stderr
    assert job_info(cluster, "slow")["status"] == "STOPPED"


@pytest.mark.parametrize(
    ("address", "environment", "message"),
    [
        (None, {"RAY_AUTH_TOKEN": "0" * 64}, "requires another token"),
        ("http://127.0.0.1:19", {}, "No Ray dashboard answers at http://127.0.0.1:19"),
    ],
    ids=["token", "address"],
)
def test_submit_says_what_keeps_it_from_the_cluster(
    cluster: Cluster, address: str | None, environment: dict[str, str], message: str
) -> None:
    done = submit(cluster, "--", "true", address=address, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "0" * 64 not in done.stderr
