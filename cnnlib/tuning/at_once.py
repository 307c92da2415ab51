"""Limits how many trials of a search run at the same time, and lets a search that goes on know the trials before.

Ray Tune limits the trials that it begins, with a limit that it takes from the stored state of the search. Those that
ran when the search was interrupted it starts again all at once. And it stores no state of ASHA, which would compare the
trials of each command with one another alone. This file uses internals of the Ray version that pyproject.toml pins;
tests/unit/tuning/test_at_once.py fails when one of them moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator


class DrawnValues(BasicVariantGenerator):  # type: ignore[misc]
    """Draws the values of trials; the limit is that of this command."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what an earlier command has drawn, and not its limit."""
        super().set_state({**state, "max_concurrent": self.max_concurrent})


class LimitedAsha(ASHAScheduler):  # type: ignore[misc]
    """Stops trials as ASHA does, and lets no more than `most` run."""

    def __init__(self, most: int, find_scores: Callable[[str], Sequence[float | None]], **parts: Any) -> None:
        """Takes a function that returns the scores of all epochs of a trial, by its id."""
        super().__init__(**parts)
        self._most = most
        self._find_scores = find_scores

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Takes a new trial, or one of an earlier command. What that one has scored counts as if it were now.

        One that goes on reports its epochs once more by itself.
        """
        super().on_trial_add(tune_controller, trial)
        if trial.status == Trial.TERMINATED:
            for epoch, score in enumerate(self._find_scores(trial.trial_id), start=1):
                if score is not None:
                    self.on_trial_result(
                        tune_controller, trial, {self._time_attr: epoch, self._metric: score}
                    )

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Returns the next trial to start; None if there is none, or no room. Pauses all that would start beyond."""
        trials = tune_controller.get_trials()
        running, waiting, paused = (
            [trial for trial in trials if trial.status == status]
            for status in (Trial.RUNNING, Trial.PENDING, Trial.PAUSED)
        )
        room = max(0, self._most - len(running))
        for trial in waiting[room:]:
            tune_controller._set_trial_status(trial, Trial.PAUSED)
        return next(iter([*waiting, *paused][:room]), None)


def restore_search(path: str, trainable: Any, tune_config: tune.TuneConfig) -> tune.Tuner:
    """Returns a search as it was stored, with the limit of a new config."""
    tuner = tune.Tuner.restore(path, trainable, resume_errored=True)
    tuner._local_tuner._tune_config = tune_config
    return tuner
