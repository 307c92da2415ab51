"""Jobs that nobody watches, on the real cluster: bad checkpoints, a kill at the worst line, two jobs at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cnnlib.gates.verdicts import read_gates
from cnnlib.runs.checkpoints import last_and_best, list_checkpoints
from cnnlib.runs.history import load_history
from cnnlib.storage import files, layout, publish
from tests.integration.conftest import Cluster, JobResult, RunJob

EPOCHS = 5


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: str, on_cluster: RunJob) -> Path:
    """A run of five good checkpoints."""
    folder = tmp_path_factory.mktemp("unattended") / "runs"
    size = ["--epochs", EPOCHS, "--steps-per-epoch", 1, "--batch-size", 32]
    on_cluster("train", "dnn", "--data", tiny_dataset, "--runs", folder, "--name", "good", *size)
    return folder


def last_line(done: JobResult) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def copy_run(runs: Path, to: Path) -> Path:
    shutil.copytree(runs, to)
    return to


def add_bad_run(runs: Path) -> None:
    """Adds a run of three checkpoints: truncated in storage, diverged, and without its model file."""
    bad = runs / "bad"
    shutil.copytree(runs / "good", bad)
    checkpoints = bad / "checkpoints"
    for epoch in (4, 5):
        shutil.rmtree(checkpoints / f"epoch-{epoch:04d}")
    truncated, diverged, deleted = (checkpoints / f"epoch-{epoch:04d}" for epoch in (1, 2, 3))
    model = truncated / layout.CHECKPOINT_MODEL
    model.write_bytes(model.read_bytes()[:2000])
    state_digest(truncated)
    make_weights_nan(diverged / layout.CHECKPOINT_MODEL)
    state_digest(diverged)
    (deleted / layout.CHECKPOINT_MODEL).unlink()


def make_weights_nan(model: Path) -> None:
    """Saves the model again with NaN weights, in a process of its own: Keras must not load TensorFlow here."""
    program = (
        "import sys, keras, numpy as np; model = keras.models.load_model(sys.argv[1], compile=False);"
        "model.set_weights([np.full_like(each, np.nan) for each in model.get_weights()]); model.save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", program, str(model)], check=True, capture_output=True, timeout=300)
    assert zipfile.is_zipfile(model)


def state_digest(checkpoint: Path) -> None:
    """Writes the manifest again, so that it states the bytes of the model file as they are now."""
    path = checkpoint / layout.MANIFEST
    manifest = json.loads(path.read_text())
    data = (checkpoint / layout.CHECKPOINT_MODEL).read_bytes()
    manifest["files"][layout.CHECKPOINT_MODEL] = {"bytes": len(data), "sha256": publish.sha256_hex(data)}
    path.write_bytes(publish.canonical_json(manifest))


def test_of_eight_pending_checkpoints_the_five_good_ones_get_their_reports(
    runs: Path, tiny_dataset: str, on_cluster: RunJob, tmp_path: Path
) -> None:
    everything = copy_run(runs, tmp_path / "runs")
    add_bad_run(everything)
    command = ("--pending", everything, "--data", tiny_dataset, "--reports", tmp_path / "reports")
    first = on_cluster("evaluate", *command, expect=5)
    result = last_line(first)
    assert [(row["run"], row["checkpoint_epoch"]) for row in result["reports"] if row["new"]] == [
        ("good", epoch) for epoch in range(1, EPOCHS + 1)
    ]
    errors = [line for line in first.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert "Traceback" not in first.stderr
    reasons = {Path(each["checkpoint"]).name: each["reason"] for each in result["left_out"]}
    assert "Keras cannot open" in reasons["epoch-0001"]
    assert "not finite" in reasons["epoch-0002"] or "NaN" in reasons["epoch-0002"]
    assert "it was deleted in part" in reasons["epoch-0003"]

    again = on_cluster("evaluate", *command, expect=5)
    result = last_line(again)
    assert result["reports"] == []
    assert [each["remembered"] for each in result["left_out"]] == [True] * 3
    assert again.stderr.count("It was not tried again; --retry does.") == 3
    assert "event=score" not in again.stderr


@pytest.mark.parametrize("damage", ["truncated", "nan", "missing", "classes"])
def test_a_model_file_that_cannot_be_scored_is_one_line_and_exit_code_2(
    runs: Path, tiny_dataset: str, on_cluster: RunJob, tmp_path: Path, damage: str
) -> None:
    model = tmp_path / "theirs.keras"
    if damage != "missing":
        shutil.copy(runs / "good" / "checkpoints" / "epoch-0001" / layout.CHECKPOINT_MODEL, model)
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[:2000])
    if damage == "nan":
        make_weights_nan(model)
    if damage == "classes":
        program = (
            "import sys, keras; keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(),"
            "keras.layers.Dense(3)]).save(sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", program, str(model)], check=True, capture_output=True)
    done = on_cluster(
        "evaluate", "--checkpoint", model, "--data", tiny_dataset, "--reports", tmp_path / "reports", expect=2
    )
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(model) in error
    assert "Traceback" not in done.stderr


def test_a_job_that_is_killed_between_report_and_verdict_leaves_the_verdict_to_the_next(
    runs: Path, tiny_dataset: str, on_cluster: RunJob, cluster: Cluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate.toml"
    gate.write_text("[min_accuracy]\noverall = 0.0\n")
    reports = str(tmp_path / "reports")
    command = ["--pending", runs, "--data", tiny_dataset, "--reports", reports, "--gate", gate]
    program = (
        "import os, sys; from cnnlib.gates import apply; apply.apply_gates = lambda *_: os._exit(9);"
        "from jobs.evaluate import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {"RAY_ADDRESS": cluster.address, **cluster.environment}
    killed = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)],
        env={**files_environment(), **environment},
        capture_output=True,
        timeout=300,
    )
    assert killed.returncode == 9, killed.stderr.decode()[-3000:]
    ids = [stored.uri for stored in files.list_objects(layout.report_manifests(reports))]
    assert len(ids) == EPOCHS
    assert files.list_objects(layout.report_gates(reports)) == []

    result = on_cluster("evaluate", *command).result
    assert [row["new"] for row in result["reports"]] == [False] * EPOCHS
    judged = [each["report_id"] for each in result["gates"]]
    assert 1 <= len(judged) <= 2, "the last and the best checkpoint, which may be the same"
    assert all(read_gates(reports, report_id)[0]["verdict"] == "pass" for report_id in judged)
    assert on_cluster("evaluate", *command).result["gates"] == []


def files_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def test_two_evaluations_at_once_write_each_report_once(
    runs: Path, tiny_dataset: str, on_cluster: RunJob, tmp_path: Path
) -> None:
    reports = tmp_path / "reports"
    command = ("evaluate", "--pending", runs, "--data", tiny_dataset, "--reports", reports)
    with ThreadPoolExecutor(2) as pool:
        both = [future.result() for future in [pool.submit(on_cluster, *command) for _ in range(2)]]
    seen = {row["report_id"] for done in both for row in done.result["reports"]}
    assert len(seen) == EPOCHS
    assert sum(row["new"] for done in both for row in done.result["reports"]) == EPOCHS, "each is scored once"
    assert len(files.list_objects(layout.report_manifests(str(reports)))) == EPOCHS * 2, "manifests and marks"
    assert files.list_files(str(reports / "leases")) == []
    for report_id in seen:
        shown = on_cluster("report", reports, report_id)
        assert shown.result["report"]["rows"] == 120


def test_a_checkpoint_stays_until_its_report_exists_and_the_best_and_the_last_stay_anyway(
    tiny_dataset: str, on_cluster: RunJob, tmp_path: Path
) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    keep = ["--checkpoint.keep", 1, "--checkpoint.reports", reports, "--steps-per-epoch", 1]

    def train(epochs: int) -> dict[str, list[int]]:
        on_cluster(
            "train",
            "dnn",
            "--data",
            tiny_dataset,
            "--runs",
            runs,
            "--name",
            "kept",
            "--epochs",
            epochs,
            *keep,
        )
        found = list_checkpoints(str(runs / "kept"))
        return {"all": [each.epoch for each in found], "best": [last_and_best(found)[1].epoch]}

    assert train(3)["all"] == [1, 2, 3]
    evaluate = ("evaluate", "--pending", runs, "--data", tiny_dataset, "--reports", reports)
    assert len(on_cluster(*evaluate).result["reports"]) == 3
    after = train(4)
    assert after["all"] == sorted({4, *after["best"]})
    assert [row["checkpoint_epoch"] for row in on_cluster(*evaluate).result["reports"]] == [4]
    assert len(load_history(str(runs / "kept"))) == 4


def test_a_checkpoint_that_its_training_deletes_meanwhile_is_no_failure(
    runs: Path, tiny_dataset: str, cluster: Cluster, tmp_path: Path
) -> None:
    own = copy_run(runs, tmp_path / "runs")
    program = (
        "import sys, shutil; from cnnlib.evaluation import run; from jobs import evaluate; evaluates = run.evaluate\n"
        "def delete_one(plan, **options):\n"
        "    shutil.rmtree(plan.targets[1].uri)\n"
        "    return evaluates(plan, **options)\n"
        "run.evaluate = delete_one; sys.exit(evaluate.main())"
    )
    command = ["--pending", own, "--data", tiny_dataset, "--reports", tmp_path / "reports", "--json"]
    environment = {"RAY_ADDRESS": cluster.address, **cluster.environment}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)],
        env={**files_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["left_out"] == []
    assert [row["checkpoint_epoch"] for row in result["reports"]] == [1, 3, 4, 5]
    assert "its training has deleted it meanwhile" in done.stderr
