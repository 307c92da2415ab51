"""A search is scored on validation rows alone, and its best trial is one that was trained to its end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnlib.config import LossConfig, OptimizerConfig, TrainConfig
from cnnlib.errors import ConfigError, InputError, TrainingError
from cnnlib.tune_config import TuneConfig
from cnnlib.tuning.follow import Follower
from cnnlib.tuning.run import Trial, _describe, choose_best, plan_search
from cnnlib.tuning.trial import FAILED_SCORE, TrainingTrial, TrialTask
from tests.datasets import write_dataset_without_ray

CONFIG = TrainConfig(validation_fraction=0.1, batch_size=2)


@pytest.fixture
def data(tmp_path: Path) -> str:
    write_dataset_without_ray(str(tmp_path / "data"))
    return str(tmp_path / "data")


def plan(data: str, output: Path, config: TrainConfig, **settings: Any) -> Any:
    ranges = ["learning-rate=1e-4..1e-1"]
    return plan_search(TuneConfig(**settings), config, ranges, data, str(output), "seed")


def test_a_search_needs_validation_rows(data: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A search is scored on validation rows"):
        plan(data, tmp_path / "out", TrainConfig())
    assert plan(data, tmp_path / "out", CONFIG).manifest.num_classes == 3
    with pytest.raises(ConfigError, match=r"first_epochs must be at most epochs\. Received 9, epochs=7"):
        plan(data, tmp_path / "out", dataclasses.replace(CONFIG, epochs=7), first_epochs=9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 10_000}, "batch_size=10000 is more than the [0-9]+ training rows"),
        ({"weights": "/no/such.keras"}, "There is no file of weights at /no/such.keras"),
        ({"loss": LossConfig(class_weights=(1.0, 2.0))}, "class_weights"),
    ],
)
def test_what_would_let_every_trial_fail_is_refused_before_the_first(
    data: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan(data, tmp_path / "out", dataclasses.replace(CONFIG, **changes))


def test_a_training_of_the_search_is_checked_with_values_that_go_together(data: str, tmp_path: Path) -> None:
    def first(*ranges: str) -> tuple[str, Any, int]:
        planned = plan_search(TuneConfig(), CONFIG, ranges, data, str(tmp_path / "out"), "seed").first
        assert planned is not None
        return planned.config.model, planned.config.model_options.depth, planned.config.batch_size

    assert first("learning-rate=1e-4..1e-1") == (CONFIG.model, None, 2)
    assert first("batch-size=1,4") == (CONFIG.model, None, 1)
    assert first("model=dnn,resnet", "model.depth=20,none") == ("dnn", None, 2), "not dnn with a depth"


def test_another_search_has_another_document(data: str, tmp_path: Path) -> None:
    one = plan(data, tmp_path, CONFIG).document()
    assert plan(data, tmp_path, CONFIG, minutes=3.0).document() == one
    assert plan(data, tmp_path, CONFIG, trials=3).document() != one
    assert plan(data, tmp_path, dataclasses.replace(CONFIG, validation_fraction=0.2)).document() != one


def test_the_document_of_a_search_has_the_fields_names(data: str, tmp_path: Path) -> None:
    found = plan_search(TuneConfig(), CONFIG, ["model.dropout=0.1..0.2"], data, str(tmp_path / "out"), "seed")
    assert [each["name"] for each in found.document()["ranges"]] == ["model_options.dropout"]


def trial(name: str, score: float | None, *, finished: bool = True, problem: str | None = None) -> Trial:
    return Trial(
        trial=name, epochs=3, finished=finished, score=score, problem=problem, minutes=1.0, values={}
    )


def test_the_best_trial_is_one_that_was_trained_to_its_end() -> None:
    trials = [trial("a", 0.7), trial("b", 0.9, finished=False), trial("c", 0.8), trial("d", None)]
    assert choose_best(trials)["trial"] == "c"
    with pytest.raises(
        TrainingError, match=r"None of 1 trials was trained to its end\. Give more --tune\.minutes"
    ):
        choose_best(trials[1:2])
    with pytest.raises(TrainingError, match="One failed: the loss is nan"):
        choose_best([trial("d", None, finished=False, problem="the loss is nan")])


@pytest.mark.parametrize(
    ("metrics", "finished", "score"),
    [
        ({"epoch": 3, "validation_accuracy": 0.5}, True, 0.5),
        ({"epoch": 2, "validation_accuracy": 0.5}, False, 0.5),
        ({"epoch": 2, "validation_accuracy": 0.5, "stopped_early": True}, True, 0.5),
        ({"epoch": 1, "validation_accuracy": FAILED_SCORE, "problem": "diverged"}, False, None),
        ({}, False, None),
    ],
)
def test_a_trial_is_described_by_its_last_result(
    metrics: dict[str, Any], finished: bool, score: float | None
) -> None:
    found = Follower(trials=4, epochs=3).describe(
        {**metrics, "trial_id": "x", "time_total_s": 90.0}, {"epochs": 3}
    )
    assert (found["finished"], found["score"], found["problem"]) == (finished, score, metrics.get("problem"))
    assert (found["trial"], found["minutes"], found["values"]) == ("x", 1.5, {"epochs": 3})


def test_the_line_of_a_trial_counts_the_trial_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def ended(name: str, score: float, *, finished: bool) -> Any:
        result = {"trial_id": name, "epoch": 3, "validation_accuracy": score}
        return SimpleNamespace(trial_id=name, last_result=result, config={}, is_finished=lambda: finished)

    # Ray calls the callback before the trial's status is that of a finished one.
    trials = [ended("a", 0.7, finished=True), ended("b", 0.9, finished=False)]
    Follower(trials=4, epochs=3).on_trial_complete(1, trials, trials[1])
    line = capsys.readouterr().err
    assert "trial=2/4" in line
    assert "best=0.9" in line


def test_values_that_cannot_work_together_fail_their_trial_with_the_reason(tmp_path: Path) -> None:
    config = TrainConfig(optimizer=OptimizerConfig(name="sgd"))
    task = TrialTask(
        config=config,
        data_uri="data",
        runs_uri="runs",
        address="",
        scratch=str(tmp_path / "scratch"),
        folder="",
    )
    # What Ray runs in the trial's actor, without the actor.
    trial = TrainingTrial.__new__(TrainingTrial)
    trial._iteration = 0
    trial.setup({"optimizer.name": "adam", "optimizer.momentum": 0.5}, task=task)
    found = trial.step()
    assert (found["validation_accuracy"], found["epoch"], found["done"]) == (FAILED_SCORE, 0, True)
    assert "momentum is for sgd and rmsprop" in found["problem"]
    trial.cleanup()
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("metrics", "error", "problem"),
    [
        ({"trial_id": "50bd0_00001", "epoch": 3, "validation_accuracy": 0.5}, None, None),
        ({}, RuntimeError("The actor died.\nIts node is gone."), "Its node is gone."),
    ],
)
def test_a_trial_has_its_own_name_and_the_reason_why_its_actor_died(
    metrics: dict[str, Any], error: Exception | None, problem: str | None
) -> None:
    result = SimpleNamespace(path="out/ray/search/50bd0_00001_f569", metrics=metrics, error=error, config={})
    found = _describe(Follower(trials=4, epochs=3), result)
    assert (found["trial"], found["problem"]) == ("50bd0_00001", problem)
