"""Trainings that are killed inside an epoch end with the very weights of a training that nobody disturbed."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cnnlib.runs.history import decode_history
from cnnlib.storage import files, layout
from tests.integration.conftest import run_job
from tests.mortal_models import DEATH

_EPOCHS, _BATCH = 2, 2
_TRAIN = ["--model", "tests.mortal_models:build", "--epochs", _EPOCHS, "--batch-size", _BATCH, "--workers", 2]
_TRAIN += ["--optimizer.ema-momentum", 0.99, "--optimizer.clip-norm", 1, "--validation-fraction", 0.1]
_TRAIN += ["--loop.steps-per-call", 5, "--checkpoint.every-steps", 40]
_PATIENCE_S = 180


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def data(tiny_idx: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("resumed") / "data"
    done = run_job("prepare", ["idx", tiny_idx, "--output", output], {"HOME": str(home)})
    assert done.code == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def runs(data: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Undisturbed runs, of the names memory and none."""
    runs = tmp_path_factory.mktemp("undisturbed")
    for cache in ("memory", "none"):
        done = run_job("train", train_arguments(data, runs, cache, cache), {"HOME": str(home)})
        assert done.code == 0, done.stderr[-6000:]
        assert "resume-point step=" in done.stderr
    return runs


def train_arguments(data: Path, runs: Path, name: str, cache: str) -> list[Any]:
    return ["seed", "--data", data, "--runs", runs, "--name", name, "--cache", cache, *_TRAIN]


def end_of(run: Path) -> dict[str, Any]:
    """Returns what a run ended with: weights, the state of the optimizer, and what the history says of every epoch."""
    folder = Path(layout.checkpoint_uri(str(run), _EPOCHS))
    found: dict[str, Any] = dict(np.load(folder / layout.CHECKPOINT_STATE))
    with zipfile.ZipFile(folder / layout.CHECKPOINT_MODEL) as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    weights.visititems(
        lambda name, each: found.update({name: each[...]}) if isinstance(each, h5py.Dataset) else None
    )
    for record in decode_history(files.read_bytes(layout.run_history(str(run)))):
        values = (record.step, record.rows, record.loss, record.accuracy, record.validation_loss)
        found[f"epoch {record.epoch}"] = np.array(values)
    return found


def assert_same_end(run: Path, undisturbed: Path) -> None:
    found, expected = end_of(run), end_of(undisturbed)
    assert found.keys() == expected.keys()
    assert len(found) > 15
    differing = [name for name in found if not np.array_equal(found[name], expected[name])]
    assert not differing
    left = list(Path(layout.run_resume_points(str(run))).glob("*"))
    assert not left, "the last epoch has its checkpoint"


def resumed_steps(stderr: str) -> list[int]:
    """Returns the steps of the epoch after which the chief, or a worker alone, said that it goes on."""
    return sorted(
        {int(steps) for steps in re.findall(r"resume resume_point=\S+ .*steps_of_epoch=(\d+)", stderr)}
    )


@pytest.mark.parametrize(
    ("rank", "cache", "signal_name"),
    [(0, "memory", "SIGSTOP"), (1, "none", "SIGKILL")],
    ids=["hangs", "dies"],
)
def test_a_worker_that_is_lost_inside_an_epoch_costs_no_row_and_changes_no_bit(
    data: Path, runs: Path, home: Path, tmp_path: Path, rank: int, cache: str, signal_name: str
) -> None:
    run, order = tmp_path / "killed", tmp_path / "order"
    order.write_text(f"{rank}\n{layout.run_resume_points(str(run))}\n{signal_name}")
    done = run_job(
        "train",
        train_arguments(data, tmp_path, "killed", cache),
        {"HOME": str(home), DEATH: str(order)},
    )
    assert done.code == 0, done.stderr[-6000:]
    assert not order.exists(), "nobody was killed"
    assert "all workers start again from the last" in done.stderr
    assert [steps % 40 for steps in resumed_steps(done.stderr)] == [0], done.stderr[-6000:]
    assert_same_end(run, runs / cache)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_gets_a_signal_inside_an_epoch_is_followed_by_the_same_command(
    data: Path, runs: Path, home: Path, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = train_arguments(data, tmp_path, "ended", "memory")
    points = Path(layout.run_resume_points(str(tmp_path / "ended")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    log = tmp_path / "log"
    with log.open("w") as stderr:
        driver = subprocess.Popen(
            [sys.executable, "-m", "jobs.train", *map(str, arguments)],
            env={**environment, "HOME": str(home)},
            stdout=stderr,
            stderr=stderr,
            # A shell lets what it runs in the background ignore SIGINT, also these tests.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    deadline = time.monotonic() + _PATIENCE_S
    while not list(points.glob("*.json")):
        assert driver.poll() is None, log.read_text()[-6000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    driver.send_signal(number)
    code = driver.wait(_PATIENCE_S)
    if number == signal.SIGKILL:
        # Its workers notice a moment later, perhaps in the second epoch: what they save until then counts.
        assert code == -number
        done = run_job("train", arguments, {"HOME": str(home)})
        assert done.code == 0, done.stderr[-6000:]
        assert "resume resume_point=" in done.stderr or "resume checkpoint=" in done.stderr, done.stderr[
            -6000:
        ]
    else:
        assert code == 130
        assert log.read_text().splitlines()[-1] == "error: interrupted"  # test_terminated.py has SIGTERM
        assert "asked to end: saving a resume point" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert not Path(layout.checkpoint_uri(str(tmp_path / "ended"), 1)).exists(), "it was ended too late"
        saved = max(layout.find_step(each.name) or 0 for each in points.glob("*.json"))
        done = run_job("train", arguments, {"HOME": str(home)})
        assert done.code == 0, done.stderr[-6000:]
        assert resumed_steps(done.stderr) == [saved], done.stderr[-6000:]
    assert_same_end(tmp_path / "ended", runs / "memory")
