"""A training whose controller dies begins a new one, as often as was asked for without progress."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ray.exceptions import RayActorError

from cnnlib.errors import StorageError, TrainingError
from cnnlib.training.ray.controller import outlive_controller


class Mortal:
    """A training that ends with each of these errors in turn, and then well."""

    def __init__(self, *errors: Exception) -> None:
        self.errors: Iterator[Exception] = iter(errors)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        for error in self.errors:
            raise error


def died() -> RayActorError:
    return RayActorError(
        None, "The actor died unexpectedly before finishing this task.\n\tclass_name: TrainController"
    )


def test_a_training_goes_on_with_a_new_controller(capfd: pytest.CaptureFixture[str]) -> None:
    train = Mortal(died(), died())
    outlive_controller(train, max_failures=2)
    assert train.calls == 3
    logged = capfd.readouterr().err
    assert logged.count("All workers start again from the last checkpoint") == 2
    assert "The actor died unexpectedly before finishing this task. All" in logged


def test_without_progress_it_ends_after_as_many_failures_as_were_asked_for() -> None:
    train = Mortal(died(), died(), died())
    with pytest.raises(TrainingError, match=r"the process that controls the workers ended: The actor died"):
        outlive_controller(train, max_failures=1)
    assert train.calls == 2


def test_failures_count_from_the_last_progress() -> None:
    steps = iter([40, 80, 80])
    train = Mortal(died(), died(), died(), died())
    with pytest.raises(TrainingError):
        outlive_controller(train, max_failures=1, find_progress=lambda: next(steps))
    assert train.calls == 3, "after steps 40 and 80 it began anew; at step 80 there was no progress"


def test_storage_that_does_not_answer_is_no_progress() -> None:
    def fail() -> int:
        raise StorageError("down")

    with pytest.raises(TrainingError):
        outlive_controller(Mortal(died()), max_failures=0, find_progress=fail)


def test_any_other_error_is_passed_on() -> None:
    train = Mortal(ValueError("mine"))
    with pytest.raises(ValueError, match="mine"):
        outlive_controller(train, max_failures=5)
    assert train.calls == 1
