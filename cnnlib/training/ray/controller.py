"""Lets a training outlive Ray Train's controller: an actor beside the driver, with which all workers die."""

from __future__ import annotations

from collections.abc import Callable

from ray.exceptions import RayActorError

from cnnlib.errors import CnnlibError, TrainingError
from cnnlib.log import log_event


def outlive_controller(
    train: Callable[[], object], max_failures: int, find_progress: Callable[[], int] = lambda: 0
) -> None:
    """Calls `train` again, with a new controller, each time that the controller's process has ended.

    Args:
        train: runs a controller to its end. It raises a RayActorError if the controller's process ends before.
        max_failures: how often it is called again without progress in between.
        find_progress: returns the step from which a restart would go on.

    Raises:
        TrainingError: the controller ended more often than that.
    """
    failures = progress = 0
    while True:
        try:
            train()
            return
        except RayActorError as err:
            now = look(find_progress)
            failures = failures + 1 if now <= progress else 1
            progress = max(now, progress)
            reason = f"the process that controls the workers ended: {_first_line(err)}"
            if failures > max_failures:
                raise TrainingError(
                    f"Training failed: {reason} Finished epochs are kept: the same command continues the run."
                ) from err
            log_event("workers", note=f"{reason} All workers start again from the last checkpoint")


def look(find_progress: Callable[[], int]) -> int:
    """Returns the step of the last progress; 0 if storage does not tell, so that the failures before go on to count."""
    try:
        return find_progress()
    except CnnlibError:
        return 0


def _first_line(err: RayActorError) -> str:
    return next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)
