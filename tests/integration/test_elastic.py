"""A training whose machines come and go under way ends as one on a single machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnlib.runs.history import load_history
from tests.changing_machines import TRAIN
from tests.integration.conftest import run_job


def test_workers_follow_the_machines_and_the_loss_does_not(
    tiny_idx: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = {"HOME": str(tmp_path)}
    data = tmp_path / "data"
    assert run_job("prepare", ["idx", tiny_idx, "--output", data], home).code == 0
    done = subprocess.run(
        [sys.executable, "-m", "tests.changing_machines", data, tmp_path],
        env={**os.environ, **home, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["code"] == 143, result["log"][-6000:]
    # More machines, one that is announced to leave, more again, and one that is lost: perhaps noticed at a second try.
    assert result["workers"][:4] == [1, 3, 1, 2]
    assert result["workers"][-1] == 1
    assert "there is room for 3 workers instead of 1; all workers start again" in result["log"]
    assert "1 of the machines will be taken away; all workers start again" in result["log"]

    elastic = load_history(str(tmp_path / "elastic"))
    assert len(elastic) > 5
    assert [(each.epoch, each.step, each.rows) for each in elastic] == [
        (epoch, epoch * 50, 600) for epoch in range(1, len(elastic) + 1)
    ]
    train = ["seed", "--data", data, "--runs", tmp_path, "--name", "alone", "--epochs", len(elastic), *TRAIN]
    alone = run_job("train", train, home)
    assert alone.code == 0, alone.stderr[-6000:]
    calm = load_history(str(tmp_path / "alone"))
    # Sums in another order differ in their last digit, and training makes more of it.
    assert [each.loss for each in elastic] == pytest.approx([each.loss for each in calm], rel=0.02)
    assert calm[-1].loss < 0.75 * calm[0].loss
