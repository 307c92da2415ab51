"""Tests after which calls resume points are due, and what the chief requests, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cnnlib.config import CheckpointConfig
from cnnlib.errors import ConfigError
from cnnlib.runs.resume_points import EpochPart
from cnnlib.training import resume_points
from cnnlib.training.loop import SAVE, STOP
from cnnlib.training.resume_points import ChiefSavedPoints, SavedPoints

NOTHING: Any = None


@pytest.mark.parametrize(
    ("every", "calls", "first", "expected"),
    [
        (100, range(25, 401, 25), 0, [100, 200, 300, 400]),
        (30, range(25, 201, 25), 0, [50, 75, 100, 125, 150, 200]),
        (10, range(25, 101, 25), 0, [25, 50, 75, 100]),
        (1, range(1, 4), 0, [1, 2, 3]),
        (100, range(175, 401, 25), 150, [200, 300, 400]),
        (0, range(25, 401, 25), 0, []),
    ],
)
def test_resume_points_by_steps_are_due_at_the_first_call_that_ends_there(
    monkeypatch: pytest.MonkeyPatch, every: int, calls: range, first: int, expected: list[int]
) -> None:
    monkeypatch.setattr(resume_points, "build_gather_call", lambda *_: list)
    points = SavedPoints(CheckpointConfig(every_steps=every), first, NOTHING, SimpleNamespace(model=None))  # type: ignore[arg-type]
    assert [step for step in calls if points.is_due(step)] == expected
    assert points.request() == 0.0


class Chief:
    """A chief whose model, writer and clock the test holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, every_minutes: float) -> None:
        self.now, self.ending = 100.0, False
        self.written: list[tuple[int, EpochPart]] = []
        self.must_be: list[bool] = []
        monkeypatch.setattr(resume_points, "build_gather_call", lambda *_: list)
        monkeypatch.setattr(resume_points, "copy_resume_state", lambda *_: {})
        writer: Any = SimpleNamespace(write=self._write)
        state: Any = SimpleNamespace(model=None, optimizer=None)
        config = CheckpointConfig(every_minutes=every_minutes)
        ends: Callable[[], bool] = lambda: self.ending  # noqa: E731
        self.points = ChiefSavedPoints(config, 0, NOTHING, state, writer, ends, clock=lambda: self.now)

    def _write(self, state: object, step: int, part: EpochPart, blocked_s: float, *, must_be: bool) -> None:
        self.written.append((step, part))
        self.must_be.append(must_be)


def test_the_chief_requests_a_resume_point_until_it_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    chief = Chief(monkeypatch, every_minutes=10)
    assert chief.points.request() == 0.0
    chief.now += 599
    assert chief.points.request() == 0.0
    chief.now += 1
    assert [chief.points.request() for _ in range(3)] == [SAVE] * 3
    chief.points.save(50, EpochPart(1, 50))
    assert chief.written == [(50, EpochPart(1, 50))]
    assert chief.must_be == [False], "the training does not wait for the one before"
    chief.now += 599
    assert chief.points.request() == 0.0


def test_an_end_is_requested_whatever_the_time_and_its_resume_point_is_not_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chief = Chief(monkeypatch, every_minutes=0)
    chief.now += 10**6
    assert chief.points.request() == 0.0
    chief.ending = True
    assert chief.points.request() == STOP
    chief.points.save(50, EpochPart(1, 50))
    assert chief.must_be == [True]


@pytest.mark.parametrize(
    ("name", "value"), [("every_steps", -1), ("every_minutes", -0.1), ("every_minutes", float("nan"))]
)
def test_an_impossible_interval_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"checkpoint\.{name}"):
        CheckpointConfig(**{name: value})  # type: ignore[arg-type]
