"""Saves resume points while an epoch runs, and decides after which calls: the same calls in every worker.

By steps, each worker knows by itself. By time, the clocks of the workers differ, so the chief says how many steps are
left until the next look. At a look, which is a message to all workers, less time than a tenth of the interval is left,
and a resume point is due; or the next look comes after half of what is left, by the speed so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import tensorflow as tf

from cnnlib.config import CheckpointConfig
from cnnlib.runs.resume_points import EpochPart
from cnnlib.training.ray.session import agree
from cnnlib.training.state.resume_point import ResumePointWriter, copy_resume_state
from cnnlib.training.strategy import gather_moving_statistics
from cnnlib.training.train_state import TrainState

_FIRST_LOOK_S = 10.0
_NEAR = 0.1
_DUE = 0


class SavedPoints:
    """Saves the resume points of a worker: implements `loop.ResumePoints`."""

    def __init__(
        self,
        config: CheckpointConfig,
        step: int,
        strategy: tf.distribute.Strategy,
        state: TrainState,
        writer: ResumePointWriter | None,
    ) -> None:
        """Takes what is saved.

        Args:
            step: steps of the run that are done.
            writer: writes the chief's copy; None in every other worker.
        """
        self._schedule = ResumeSchedule(config, step, agree=agree)
        self._strategy = strategy
        self._state = state
        self._writer = writer

    def is_due(self, step: int) -> bool:
        """Implements `loop.ResumePoints.is_due`."""
        return self._schedule.is_due(step)

    def save(self, step: int, part: EpochPart) -> None:
        """Implements `loop.ResumePoints.save`."""
        started = time.monotonic()
        statistics = gather_moving_statistics(self._strategy, self._state.model)
        if self._writer is not None:
            copied = copy_resume_state(self._state.model, self._state.optimizer, statistics)
            self._writer.write(copied, step, part, time.monotonic() - started)


class ResumeSchedule:
    """Says after which calls resume points are due. Every worker asks after every call, with the same steps."""

    def __init__(
        self,
        config: CheckpointConfig,
        step: int,
        *,
        agree: Callable[[int], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts to count.

        Args:
            step: steps of the run that are done.
            agree: returns the chief's value in every worker, once all of them have called it.
        """
        self._every_steps = config.every_steps
        self._interval_s = config.every_minutes * 60
        self._agree, self._clock = agree, clock
        self._seen = step  # the steps at the last question
        self._looked, self._looked_at = step, clock()
        self._saved_at = self._looked_at
        self._next_look: int | None = None  # None: the speed is not known yet

    def is_due(self, step: int) -> bool:
        """Returns whether a resume point is due now, after `step` steps of the run."""
        before, self._seen = self._seen, step
        by_steps = self._every_steps > 0 and before // self._every_steps < step // self._every_steps
        by_time = self._interval_s > 0 and self._look(step)
        if by_steps or by_time:
            self._saved_at = self._clock()
        return by_steps or by_time

    def _look(self, step: int) -> bool:
        if self._next_look is not None and step < self._next_look:
            return False
        steps = self._agree(self._steps_until_next_look(step))
        if steps == _DUE:
            self._saved_at = self._clock()
            steps = self._agree(self._steps_until_next_look(step))
            self._next_look = step + max(steps, 1)
            return True
        self._next_look = step + steps
        return False

    def _steps_until_next_look(self, step: int) -> int:
        """Returns what the chief tells the others; what another worker returns is not used."""
        now = self._clock()
        left_s = self._saved_at + self._interval_s - now
        if left_s <= _NEAR * self._interval_s:
            return _DUE
        wait_s = left_s / 2 if self._next_look is not None else min(_FIRST_LOOK_S, left_s / 2)
        steps, seconds = step - self._looked, now - self._looked_at
        if steps and seconds > 0:
            self._looked, self._looked_at = step, now
            return max(1, int(wait_s * steps / seconds))
        return 1
