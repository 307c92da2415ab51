"""Saves resume points while an epoch runs, and decides after which calls: the same calls in every worker.

By steps, each worker knows by itself. By time, or because the run is asked to end, the chief decides, and requests it
of the others with its next training call (`loop.ResumePoints.request`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import tensorflow as tf

from cnnlib.config import CheckpointConfig
from cnnlib.runs.resume_points import EpochPart
from cnnlib.training.loop import SAVE, STOP
from cnnlib.training.state.resume_point import ResumePointWriter, copy_resume_state
from cnnlib.training.strategy import build_gather_call
from cnnlib.training.train_state import TrainState


class SavedPoints:
    """Saves the resume points of a worker that is not the chief: implements `loop.ResumePoints`."""

    def __init__(
        self, config: CheckpointConfig, step: int, strategy: tf.distribute.Strategy, state: TrainState
    ) -> None:
        """Takes what is saved.

        Args:
            step: steps of the run that are done.
        """
        self._every_steps = config.every_steps
        self._seen = step  # the steps at the last question
        self._state = state
        self._gather_statistics = build_gather_call(strategy, state.model)

    def request(self) -> float:
        """Implements `loop.ResumePoints.request`."""
        return 0.0

    def is_due(self, step: int) -> bool:
        """Implements `loop.ResumePoints.is_due`."""
        before, self._seen = self._seen, step
        return self._every_steps > 0 and before // self._every_steps < step // self._every_steps

    def save(self, step: int, part: EpochPart) -> None:
        """Implements `loop.ResumePoints.save`."""
        del step, part
        self._gather_statistics()


class ChiefSavedPoints(SavedPoints):
    """Saves the resume points of the chief, which decides when time or an end asks for one."""

    def __init__(
        self,
        config: CheckpointConfig,
        step: int,
        strategy: tf.distribute.Strategy,
        state: TrainState,
        writer: ResumePointWriter,
        ends: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes what is saved, and starts to count the time.

        Args:
            ends: returns whether the run is asked to end.
        """
        super().__init__(config, step, strategy, state)
        self._interval_s = config.every_minutes * 60
        self._writer, self._ends, self._clock = writer, ends, clock
        self._saved_at = clock()

    def request(self) -> float:
        """Implements `loop.ResumePoints.request`."""
        if self._ends():
            return STOP
        is_time = self._interval_s > 0 and self._clock() - self._saved_at >= self._interval_s
        return SAVE if is_time else 0.0

    def save(self, step: int, part: EpochPart) -> None:
        """Implements `loop.ResumePoints.save`."""
        started = self._saved_at = self._clock()
        statistics = self._gather_statistics()
        copied = copy_resume_state(self._state.model, self._state.optimizer, statistics)
        self._writer.write(copied, step, part, self._clock() - started, must_be=self._ends())
