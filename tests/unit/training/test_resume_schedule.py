"""Tests after which calls resume points are due, with clocks that the tests move."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from cnnlib.config import CheckpointConfig
from cnnlib.training.resume_points import ResumeSchedule


def due_steps(
    config: CheckpointConfig, calls: Sequence[int], s_per_step: float = 1.0, first: int = 0
) -> list[int]:
    """Returns after which steps resume points are due, for a worker alone whose calls end at the given steps."""
    now = [100.0]
    schedule = ResumeSchedule(config, first, agree=lambda value: value, clock=lambda: now[0])
    due, before = [], first
    for step in calls:
        now[0] += (step - before) * s_per_step
        before = step
        if schedule.is_due(step):
            due.append(step)
    return due


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
    every: int, calls: range, first: int, expected: list[int]
) -> None:
    config = CheckpointConfig(every_steps=every, every_minutes=0)
    assert due_steps(config, calls, first=first) == expected


@pytest.mark.parametrize("s_per_step", [0.01, 0.3, 5.0, 100.0])
def test_resume_points_by_time_are_due_about_as_often_as_asked(s_per_step: float) -> None:
    config = CheckpointConfig(every_minutes=10)
    steps = due_steps(config, range(25, int(36_000 / s_per_step), 25), s_per_step)
    seconds = [step * s_per_step for step in steps]
    gaps = [later - earlier for earlier, later in zip([0.0, *seconds], seconds, strict=False)]
    call_s = 25 * s_per_step
    assert all(0.9 * 600 - 1 <= gap <= 600 + call_s or (call_s > 600 and gap == call_s) for gap in gaps), gaps
    assert len(gaps) >= 36_000 / max(600 + call_s, call_s) - 1


def test_there_are_few_looks() -> None:
    asked: list[int] = []
    now = [0.0]

    def agree(value: int) -> int:
        asked.append(value)
        return value

    schedule = ResumeSchedule(CheckpointConfig(every_minutes=10), 0, agree=agree, clock=lambda: now[0])
    for step in range(1, 360_001):  # an hour
        now[0] += 0.01
        schedule.is_due(step)
    assert 6 * 3 <= len(asked) <= 6 * 9


def test_workers_with_other_clocks_save_after_the_same_calls() -> None:
    barrier, said = threading.Barrier(2), [0]

    def agree_as(rank: int, value: int) -> int:
        if rank == 0:
            said[0] = value
        barrier.wait(30)
        told = said[0]
        barrier.wait(30)
        return told

    due: dict[int, list[int]] = {0: [], 1: []}

    def work(rank: int) -> None:
        now = [0.0]
        schedule = ResumeSchedule(
            CheckpointConfig(every_minutes=0.4, every_steps=333),
            0,
            agree=lambda value: agree_as(rank, value),
            clock=lambda: now[0],
        )
        for step in range(5, 2001, 5):
            now[0] += 0.5 * (1 + 7 * rank)  # the other clock runs eight times as fast
            if schedule.is_due(step):
                due[rank].append(step)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert due[0] == due[1]
    assert {335, 670, 1000, 1335, 1665} - set(due[0]) == set()
    assert len(due[0]) >= 5 + 2


def test_nothing_is_saved_or_asked_where_both_are_off() -> None:
    def refuse(value: int) -> int:
        raise AssertionError(value)

    schedule = ResumeSchedule(CheckpointConfig(every_minutes=0), 0, agree=refuse)
    assert not any(schedule.is_due(step) for step in range(1, 1000))
