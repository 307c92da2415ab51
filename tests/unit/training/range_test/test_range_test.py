"""A range test trains with growing rates, stores its curve once, and says which rates it suggests."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlib.config import ClusterConfig, OptimizerConfig, TrainConfig
from cnnlib.dataset.source import SourceSplit
from cnnlib.errors import DivergedError
from cnnlib.range_test_config import RangeTestConfig
from cnnlib.training import strategy as strategies
from cnnlib.training.plan import plan_run
from cnnlib.training.range_test.run import RangeTestResult, run_range_test
from jobs.learning_rate import main
from tests.datasets import make_source, write_dataset_without_ray
from tests.unit.conftest import THREADS


@pytest.fixture(autouse=True)
def one_strategy(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the tests of this process share its strategy: TensorFlow refuses a second one."""
    monkeypatch.setattr(strategies, "build_strategy", lambda: strategy)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Writes 300 images, which a dense layer tells apart after a few steps: each class has its own brightness."""
    rng = np.random.default_rng(0)
    labels = np.arange(300, dtype=np.int32) % 3
    images = np.clip(60 + 60 * labels[:, None, None, None] + rng.normal(0, 20, (300, 8, 8, 1)), 0, 255)
    split = SourceSplit(images=images.astype(np.uint8), labels=labels)
    source = dataclasses.replace(make_source(), splits={"train": split})
    write_dataset_without_ray(str(tmp_path / "data"), source, shard_rows=50)
    return str(tmp_path / "data")


def try_rates(data: str, output: Path, config: dict[str, Any], **test: Any) -> RangeTestResult:
    values = {"model": "dnn", "batch_size": 20, "cluster": ClusterConfig(cpus_per_worker=THREADS), **config}
    plan = plan_run(TrainConfig(**values), data, str(output), "mine")
    return run_range_test(plan, RangeTestConfig(**test))


def test_the_loss_of_every_rate_is_stored_beside_a_picture(tmp_path: Path, data: str) -> None:
    optimizer = OptimizerConfig(schedule="cosine", warmup_epochs=1.0)
    result = try_rates(data, tmp_path / "out", {"optimizer": optimizer}, lowest=1e-5, highest=1e3, steps=80)
    stored = json.loads(Path(result["result"]).read_text())
    assert sorted(path.name for path in (tmp_path / "out" / "mine").iterdir()) == sorted(
        [Path(result["picture"]).name, Path(result["result"]).name]
    )
    assert Path(result["picture"]).read_bytes().startswith(b"\x89PNG")
    assert len(stored["rates"]) == len(stored["losses"]) == len(stored["smoothed_losses"]) == result["steps"]
    assert stored["rates"][:2] == pytest.approx([1e-5, 1e-5 * 1e8 ** (1 / 79)])
    # The first losses are those of a new model, log(3), and the rate is so low that it learns nothing.
    assert np.mean(stored["losses"][:10]) == pytest.approx(math.log(3), rel=0.3)
    assert result["diverged_at"] is not None
    assert result["steps"] < 80
    assert result["steepest"] is not None
    assert 1e-5 < result["steepest"] < result["lowest_loss_at"] < result["diverged_at"]
    assert result["tenth_of_lowest"] == result["lowest_loss_at"] / 10
    assert min(stored["smoothed_losses"]) < 0.9 * stored["smoothed_losses"][0]


def test_the_same_test_is_run_once(tmp_path: Path, data: str) -> None:
    first = try_rates(data, tmp_path / "out", {}, steps=20)
    again = try_rates(data, tmp_path / "out", {"workers": 2}, steps=20)  # one process in any case
    assert again == {**first, "finished_before": True}
    other = try_rates(data, tmp_path / "out", {"batch_size": 10}, steps=20)
    assert not other["finished_before"]
    assert other["result"] != first["result"]


def test_a_rate_that_diverges_at_once_is_an_error(tmp_path: Path, data: str) -> None:
    with pytest.raises(DivergedError, match=r"Give a lower --test\.lowest"):
        try_rates(data, tmp_path / "out", {"optimizer": OptimizerConfig(name="sgd")}, lowest=1e8, highest=1e9)
    assert list((tmp_path / "out").glob("**/*.json")) == []


def test_the_job_prints_the_suggestions(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", data, "--output", str(tmp_path / "out"), "--test.steps", "20"]
    flags += ["--test.highest", "0.001", "--batch-size", "20", "--cluster.cpus-per-worker", str(THREADS)]
    code = main(["dnn", *flags, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    assert result["steps"] == 20
    assert Path(result["picture"]).parent == tmp_path / "out" / "dnn"
    assert "learning-rates steepest=" in captured.err
