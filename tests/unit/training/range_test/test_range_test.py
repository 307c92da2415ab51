"""A range test trains with growing rates, stores its curve once, and says which rates it suggests."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cnnlib.config import ClusterConfig, OptimizerConfig, TrainConfig
from cnnlib.dataset.source import SourceSplit
from cnnlib.errors import DivergedError
from cnnlib.range_test_config import RangeTestConfig
from cnnlib.training import strategy as strategies
from cnnlib.training.plan import plan_run
from cnnlib.training.range_test import run
from cnnlib.training.range_test.run import RangeTestResult, run_range_test
from jobs.learning_rate import main
from tests import models
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


def test_a_model_of_the_users_own_is_tried_again_because_its_code_may_be_new(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "build_edited", models.build_linear, raising=False)
    config = {"model": "tests.models:build_edited"}
    first = try_rates(data, tmp_path / "out", config, steps=20)
    same = try_rates(data, tmp_path / "out", config, steps=20)
    assert (same["finished_before"], same["result"]) == (False, first["result"])

    def build_deeper(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
        model = models.build_linear(image_shape, 5)
        return keras.Model(model.inputs, keras.layers.Dense(num_classes)(model.outputs[0]))

    monkeypatch.setattr(models, "build_edited", build_deeper)
    edited = try_rates(data, tmp_path / "out", config, steps=20)
    assert edited["result"] != first["result"]
    assert Path(first["result"]).exists()


def test_rates_are_those_of_the_flag_also_where_the_training_scales_them(tmp_path: Path, data: str) -> None:
    plain = try_rates(data, tmp_path / "out", {}, lowest=2e-5, highest=2e-1, steps=20)
    scaled = try_rates(
        data, tmp_path / "out", {"scale_learning_rate_from": 10}, lowest=1e-5, highest=1e-1, steps=20
    )
    losses, halves = (json.loads(Path(each["result"]).read_text()) for each in (plain, scaled))
    assert halves["losses"] == pytest.approx(losses["losses"], rel=1e-3)
    assert halves["lowest_loss_at"] == pytest.approx(losses["lowest_loss_at"] / 2)


def test_a_loss_that_falls_to_the_end_is_said(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "measure_losses", lambda state, batches, rates: [2 - i / 20 for i in range(20)])
    result = try_rates(data, tmp_path / "out", {}, steps=20, highest=1e-3)
    assert result["lowest_loss_at"] == 1e-3
    assert "try a higher --test.highest" in capsys.readouterr().err


def test_a_rate_that_diverges_at_once_is_an_error(tmp_path: Path, data: str) -> None:
    with pytest.raises(DivergedError, match=r"Give a lower --test\.lowest"):
        try_rates(data, tmp_path / "out", {"optimizer": OptimizerConfig(name="sgd")}, lowest=1e8, highest=1e9)
    assert list((tmp_path / "out").glob("**/*.json")) == []


def test_the_job_prints_the_suggestions(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", data, "--output", str(tmp_path / "out"), "--test.steps", "20"]
    flags += ["--test.highest", "0.001", "--batch-size", "20", "--cluster.cpus-per-worker", str(THREADS)]
    (tmp_path / "my recipe.toml").write_text('base = "dnn"\n')
    code = main([str(tmp_path / "my recipe.toml"), *flags, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    assert result["steps"] == 20
    assert Path(result["picture"]).parent == tmp_path / "out" / "my-recipe.toml"
    assert "learning-rates steepest=" in captured.err
