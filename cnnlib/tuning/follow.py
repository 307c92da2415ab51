"""Tells how a search goes on: a line for every trial that ends, with the best so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import tune

from cnnlib.log import log_event
from cnnlib.tuning.trial import FAILED_SCORE, SCORE

if TYPE_CHECKING:
    from cnnlib.tuning.run import Trial


class Follower(tune.Callback):  # type: ignore[misc]
    """Logs the trials of a search as they end."""

    def __init__(self, trials: int, epochs: int) -> None:
        self._trials, self._epochs = trials, epochs

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Logs a trial that was trained to its end, stopped, or has failed."""
        del iteration, info
        found = self.describe(trial.last_result or {}, dict(trial.config))
        # Ray calls this before the trial itself counts as finished.
        done = [each for each in trials if each.is_finished() or each.trial_id == trial.trial_id]
        ended = [self.describe(each.last_result or {}, {}) for each in done]
        best = max((each["score"] or 0.0 for each in ended if each["finished"]), default=None)
        log_event(
            "trial",
            trial=f"{len(ended)}/{self._trials}",
            name=found["trial"],
            epochs=f"{found['epochs']}/{self._epochs}",
            validation_accuracy=found["score"],
            best=best,
            **{name.replace(".", "_"): value for name, value in found["values"].items()},
            **({"note": found["problem"]} if found["problem"] else {}),
        )

    def describe(self, metrics: dict[str, Any], config: dict[str, Any]) -> Trial:
        """Returns a trial by its last result and its values."""
        score, problem, epochs = metrics.get(SCORE), metrics.get("problem"), int(metrics.get("epoch", 0))
        if score == FAILED_SCORE:
            score = None
        return {
            "trial": str(metrics.get("trial_id", "")),
            "epochs": epochs,
            "finished": score is not None and (epochs >= self._epochs or bool(metrics.get("stopped_early"))),
            "score": None if score is None else float(score),
            "problem": problem,
            "minutes": float(metrics.get("time_total_s", 0.0)) / 60,
            "values": config,
        }
