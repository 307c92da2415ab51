"""A training that diverges goes on from where it was stable, with a smaller learning rate, on the real workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnlib.runs.history import load_history
from cnnlib.runs.rollbacks import load_rollbacks
from tests.integration.conftest import JobResult, RunJob

_UNSTABLE = ["--model", "tests.unstable_models:build", "--batch-size", 32, "--optimizer.name", "sgd"]
_RATE = 0.12


def train(on_cluster: RunJob, data: str, runs: Path, *flags: Any, expect: int = 0) -> JobResult:
    return on_cluster(
        "train", "seed", "--data", data, "--runs", runs, "--name", "r", "--workers", 2, *_UNSTABLE, *flags,
        expect=expect,
    )  # fmt: skip


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_a_run_that_diverges_is_rolled_back_until_it_does_not(
    tiny_dataset: str, on_cluster: RunJob, tmp_path: Path, schedule: str
) -> None:
    # A constant rate is a variable that checkpoints restore; that of a schedule is computed at every step.
    rate = ["--epochs", 3, "--learning-rate", _RATE, "--optimizer.schedule", schedule]
    if schedule == "constant":  # without the flag it ends, and the same command with the flag goes on
        stopped = train(on_cluster, tiny_dataset, tmp_path, *rate, expect=1)
        assert "The training diverged: the " in stopped.stderr
        assert load_rollbacks(str(tmp_path / "r")) == []

    done = train(on_cluster, tiny_dataset, tmp_path, *rate, "--on-nan", "rollback")
    rollbacks = load_rollbacks(str(tmp_path / "r"))
    assert 1 <= len(rollbacks) <= 3
    history = load_history(str(tmp_path / "r"))
    assert [record.epoch for record in history] == [1, 2, 3]
    assert history[-1].learning_rate == pytest.approx(_RATE / 2 ** len(rollbacks))
    assert history[-1].loss < 2
    assert done.stderr.count("all workers start again") == len(rollbacks)
    assert "RestartError" not in done.stderr
