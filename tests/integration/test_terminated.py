"""SIGTERM ends a job at any moment: exit code 143, one line, no process left, and the same command goes on."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cnnlib.runs.history import decode_history
from cnnlib.storage import files, layout
from tests.integration.conftest import run_job

_MARK = "CNNLIB_TEST_MARK"
_PATIENCE_S = 180


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def data(tiny_idx: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("terminated") / "data"
    done = run_job("prepare", ["idx", tiny_idx, "--output", output], {"HOME": str(home)})
    assert done.code == 0, done.stderr
    return output


def find_processes(mark: str) -> list[str]:
    """Returns the command lines of all processes whose environment holds the mark."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and f"{_MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def terminate_when(
    is_time: Callable[[str], bool], job: str, arguments: Sequence[Any], home: Path
) -> tuple[int, str, str]:
    """Runs a job with a Ray of its own and sends it SIGTERM; returns exit code, stderr, and the mark of its processes.

    Args:
        is_time: returns whether the moment has come, from what the job has written to stderr.
    """
    mark, log = secrets.token_hex(8), home / f"{secrets.token_hex(4)}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", f"jobs.{job}", *map(str, arguments)],
            env={**environment, "HOME": str(home), _MARK: mark},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not is_time(log.read_text()):
            assert process.poll() is None, log.read_text()[-6000:]
            assert time.monotonic() < deadline, log.read_text()[-6000:]
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=_PATIENCE_S), log.read_text(), mark
    finally:
        process.kill()
        process.wait()


def assert_ended(code: int, stderr: str, mark: str) -> None:
    assert code == 143, stderr[-6000:]
    assert stderr.splitlines()[-1] == "error: terminated", stderr[-6000:]
    for trace in ("Traceback", "SIGABRT", "Fatal Python error", "*** "):
        assert trace not in stderr, stderr[-6000:]
    deadline = time.monotonic() + 30  # a worker may be in the middle of its last breath
    while left := find_processes(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def test_a_training_that_is_terminated_goes_on_with_the_same_command(
    data: Path, home: Path, tmp_path: Path
) -> None:
    train = ["dnn", "--data", data, "--runs", tmp_path / "runs", "--name", "ended", "--epochs", 40]
    train += ["--workers", 2, "--batch-size", 32]
    run = layout.run_uri(str(tmp_path / "runs"), "ended")
    second = Path(layout.checkpoint_uri(run, 2)) / layout.MANIFEST
    code, stderr, mark = terminate_when(lambda _: second.exists(), "train", train, home)
    assert_ended(code, stderr, mark)
    assert not Path(layout.run_lease(run)).exists(), "the next training would wait for it"
    last = decode_history(files.read_bytes(layout.run_history(run)))[-1].epoch
    assert 2 <= last < 40
    train[train.index(40)] = last + 1
    done = run_job("train", train, {"HOME": str(home)})
    assert (done.code, done.result["epochs"]) == (0, last + 1), done.stderr[-6000:]


def test_an_evaluation_that_is_terminated_leaves_no_process(data: Path, home: Path, tmp_path: Path) -> None:
    from tests.models import build_linear

    model = tmp_path / "linear.keras"
    build_linear((28, 28, 1), 10).save(model)
    reports = tmp_path / "reports"
    evaluate = ["--checkpoint", model, "--data", data, "--reports", reports]
    # In the start of a Ray of its own, when most processes are new.
    code, stderr, mark = terminate_when(lambda text: "ray" in text.lower(), "evaluate", evaluate, home)
    assert_ended(code, stderr, mark)
    assert run_job("evaluate", evaluate, {"HOME": str(home)}).code == 0
