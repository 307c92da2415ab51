"""A search over a recipe goes on after a kill, and its recipe file trains."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cnnlib.recipe_files import parse_recipe
from tests.integration.conftest import Cluster, JobResult, RunJob, command_of_job, result_of_job

_PATIENCE_S = 240.0
_TRIALS = 3


_MODEL = """
import keras

def build(image_shape, num_classes):
    layers = [keras.layers.Flatten(), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(num_classes)]
    return keras.Sequential([keras.Input(image_shape), keras.layers.Rescaling(1 / 255), *layers])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a user's own model, in which the jobs are started."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "own_dense.py").write_text(_MODEL)
    return folder


def run_in(folder: Path, cluster: Cluster, job: str, *arguments: Any) -> JobResult:
    """Runs a job on the cluster in a folder."""
    command = command_of_job(job, arguments, {"RAY_ADDRESS": cluster.address, **cluster.environment})
    done = subprocess.run(**command, cwd=folder, capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr[-6000:]
    return result_of_job(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def searched(
    cluster: Cluster, tiny_dataset: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A search of two trials at once whose driver was killed after the first, and that goes on with one at once."""
    output = tmp_path_factory.mktemp("search") / "out"
    command = ["dnn", "--data", tiny_dataset, "--output", output, "--validation-fraction", 0.2, "--epochs", 2]
    command += ["--range", "learning-rate=1e-4..1e-2", "--range", "optimizer.name=adam,sgd"]
    command += ["--tune.trials", _TRIALS, "--batch-size", 32, "--model", "own_dense:build"]
    log = output.with_suffix(".log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    with log.open("w") as stderr:
        driver = subprocess.Popen(
            [sys.executable, "-m", "jobs.tune", *map(str, command), "--tune.parallel", "2"],
            env={**environment, **cluster.environment, "RAY_ADDRESS": cluster.address},
            cwd=folder,
            stdout=stderr,
            stderr=stderr,
        )
    deadline = time.monotonic() + _PATIENCE_S
    while "trial trial=1/3" not in log.read_text():
        assert driver.poll() is None, log.read_text()[-6000:]
        assert time.monotonic() < deadline, log.read_text()[-6000:]
        time.sleep(0.2)
    driver.kill()
    driver.wait()
    killed = time.time()
    done = run_in(folder, cluster, "tune", *command)
    return {"output": output, "command": command, "killed": killed, "done": done}


def test_a_search_that_was_killed_goes_on_with_its_trials(searched: dict[str, Any]) -> None:
    result = searched["done"].result
    assert len(result["trials"]) == _TRIALS
    first = next(trial for trial in result["trials"] if trial["trial"].endswith("_00000"))
    assert first["values"] == {"learning_rate": 0.001, "optimizer.name": "adam"}, "the recipe's own"
    assert all(trial["problem"] is None and 0 < trial["score"] <= 1 for trial in result["trials"])
    finished = [trial for trial in result["trials"] if trial["finished"]]
    assert result["best"]["score"] == max(trial["score"] for trial in finished)
    stored = pq.read_table(searched["output"] / "trials.parquet").to_pylist()
    assert [json.loads(row["values"]) for row in stored] == [trial["values"] for trial in result["trials"]]
    runs = sorted(path.name for path in (searched["output"] / "runs").iterdir())
    assert runs == sorted(trial["trial"] for trial in result["trials"]), "no trial was trained twice"
    assert not (searched["output"] / "lease.json").exists()


def test_it_goes_on_with_as_many_trials_at_once_as_it_is_told(searched: dict[str, Any]) -> None:
    times = []
    for path in (searched["output"] / "ray/search").glob("*/result.json"):
        results = [json.loads(line) for line in path.read_text().splitlines()]
        later = [result for result in results if result["timestamp"] > searched["killed"]]
        if later:
            times.append((later[0]["timestamp"] - later[0]["time_this_iter_s"], later[-1]["timestamp"]))
    assert len(times) >= 2, "two were under way when it was killed, or begun later"
    for (_, ended), (began, _) in itertools.pairwise(sorted(times)):
        assert ended <= began + 1.0, "timestamps are whole seconds"


def test_its_recipe_is_that_of_the_best_trial_and_trains(
    searched: dict[str, Any], tiny_dataset: str, cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    path, best = searched["output"] / "recipe.toml", searched["done"].result["best"]
    config = parse_recipe(path.read_text(), "recipe.toml").config
    assert (config.learning_rate, config.optimizer.name) == tuple(best["values"].values())
    assert (config.epochs, config.validation_fraction, config.cluster.cpus_per_worker) == (2, 0.2, None)
    done = run_in(
        folder, cluster, "train", path, "--data", tiny_dataset, "--runs", tmp_path, "--name", "best"
    )
    assert done.result["status"] == "finished"
    assert done.result["metrics"]["validation_accuracy"] == pytest.approx(best["score"])
    assert json.loads((tmp_path / "best/run.json").read_text())["recipe"] == "recipe.toml"


def test_another_search_is_not_mixed_with_it(searched: dict[str, Any], on_cluster: RunJob) -> None:
    command = [*searched["command"], "--range", "augment.shift=0..2"]
    refused = on_cluster("tune", *command, expect=2)
    assert "already describes something else: it differs in ranges" in refused.stderr


def test_a_model_that_cannot_be_built_is_refused_before_a_trial_begins(
    tiny_dataset: str, on_cluster: RunJob, tmp_path: Path
) -> None:
    command = ["dnn", "--data", tiny_dataset, "--output", tmp_path / "out", "--validation-fraction", 0.2]
    command += ["--range", "learning-rate=1e-4..1e-2", "--model", "tests.models:build_liner"]
    refused = on_cluster("tune", *command, expect=2)
    assert "tests.models has no function 'build_liner'. Did you mean 'build_linear'?" in refused.stderr
    assert not (tmp_path / "out/search.json").exists(), (
        "the same folder serves the command without the mistake"
    )
