"""As many trials run at the same time as the command says, also where it goes on with another number than before."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune.experiment import Experiment, Trial
from ray.tune.impl.tuner_internal import TunerInternal
from ray.tune.schedulers import TrialScheduler

from cnnlib.runs.history import encode_history
from cnnlib.storage import files, layout
from cnnlib.tuning.at_once import DrawnValues, LimitedAsha, restore_search
from cnnlib.tuning.trial import SCORE, find_scores
from tests.histories import make_history


class Controller:
    """Stands in for Ray Tune's: trials of these statuses, of which it starts the pending ones."""

    def __init__(self, *statuses: str) -> None:
        self.trials = [SimpleNamespace(status=status) for status in statuses]

    def get_trials(self) -> Sequence[Any]:
        return self.trials

    def _set_trial_status(self, trial: Any, status: str) -> None:
        trial.status = status

    def start(self, most: int) -> list[str]:
        """Does what a step of the controller does to trials; returns their statuses."""
        scheduler = LimitedAsha(most, lambda _: (), max_t=9)
        chosen = scheduler.choose_trial_to_run(self)
        for trial in self.trials:
            if trial is chosen or trial.status == Trial.PENDING:
                trial.status = Trial.RUNNING
        return [trial.status for trial in self.trials]


@pytest.mark.parametrize(
    ("before", "most", "after"),
    [
        # What ran when the search was interrupted is pending when it goes on.
        (["TERMINATED", "PENDING", "PENDING", "PENDING"], 1, ["TERMINATED", "RUNNING", "PAUSED", "PAUSED"]),
        (["RUNNING", "PAUSED", "PENDING"], 1, ["RUNNING", "PAUSED", "PAUSED"]),
        (["RUNNING", "PAUSED", "PAUSED"], 2, ["RUNNING", "RUNNING", "PAUSED"]),
        (["TERMINATED", "PAUSED"], 1, ["TERMINATED", "RUNNING"]),
        (["RUNNING", "RUNNING", "PENDING"], 1, ["RUNNING", "RUNNING", "PAUSED"]),
        (["PENDING", "PENDING"], 3, ["RUNNING", "RUNNING"]),
        (["TERMINATED", "ERROR"], 2, ["TERMINATED", "ERROR"]),
    ],
)
def test_no_more_trials_run_than_may(before: list[str], most: int, after: list[str]) -> None:
    assert Controller(*before).start(most) == after


def test_as_many_more_are_begun_as_this_command_allows(tmp_path: Path) -> None:
    def draw(most: int) -> DrawnValues:
        return DrawnValues(max_concurrent=most, random_state=0)

    first = draw(2)
    first.add_configurations(
        Experiment("search", run=lambda config: None, config={"rate": tune.uniform(0, 1)}, num_samples=6)
    )
    begun = [first.next_trial() for _ in range(3)]
    assert begun[2] is None, "two may run"
    first.save_to_dir(str(tmp_path), "now")
    again = draw(3)
    again.restore_from_dir(str(tmp_path))
    more = [again.next_trial(), again.next_trial()]
    assert more[1] is None, "three may run, and two of them do already"
    assert {trial.trial_id[-5:] for trial in (*begun[:2], more[0])} == {"00000", "00001", "00002"}


def test_a_restored_search_has_the_config_of_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = SimpleNamespace(_local_tuner=SimpleNamespace(_tune_config="old"))
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: stored)
    config = tune.TuneConfig()
    assert restore_search("out/search", object, config)._local_tuner._tune_config is config
    # Where Ray takes it from when the search goes on.
    assert {"_tune_config", "search_alg", "scheduler"} <= set(TunerInternal._fit_resume.__code__.co_names) | {
        name
        for each in TunerInternal._fit_resume.__code__.co_consts
        if isinstance(each, tuple)
        for name in each
    }


def test_a_trial_is_compared_with_those_of_earlier_commands(tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    for name, scores in {"good": (0.8, 0.9), "other": (0.7, 0.7), "lost": ()}.items():
        if scores:
            uri = layout.run_history(layout.run_uri(runs, name))
            files.write_bytes(uri, encode_history(make_history(scores)))
    scheduler = LimitedAsha(1, functools.partial(find_scores, runs), max_t=9, reduction_factor=3)
    scheduler = pickle.loads(pickle.dumps(scheduler))  # as Ray stores it
    scheduler.set_search_properties(SCORE, "max")

    def add(name: str, status: str) -> Any:
        trial = SimpleNamespace(trial_id=name, status=status)
        scheduler.on_trial_add(None, trial)
        return trial

    def report(trial: Any, score: float) -> str:
        return str(scheduler.on_trial_result(None, trial, {"training_iteration": 1, SCORE: score}))

    assert report(add("alone", Trial.PENDING), 0.1) == TrialScheduler.CONTINUE
    for name in ("good", "other", "lost"):
        add(name, Trial.TERMINATED)
    assert report(add("worse", Trial.PENDING), 0.5) == TrialScheduler.STOP
    assert report(add("better", Trial.PENDING), 0.95) == TrialScheduler.CONTINUE
