"""Rolls a run back that diverged: it goes on from its best checkpoint with half the learning rate, up to 3 times."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from cnnlib.errors import DivergedError, RestartError
from cnnlib.runs.checkpoints import find_stable, list_checkpoints
from cnnlib.runs.resume_points import delete_resume_points
from cnnlib.runs.retention import delete_checkpoint
from cnnlib.runs.rollbacks import MAX_ROLLBACKS, add_rollback, load_rollbacks, rate_factor
from cnnlib.training.ray.session import agree


def roll_back(err: DivergedError, run: str, epoch: int, end_writing: Callable[[], None] | None) -> NoReturn:
    """Ends this worker, and lets all of them start again with a smaller learning rate. Every worker calls it.

    The chief stores the rollback before any worker ends. A crash after that leaves a run that goes on from a later
    checkpoint or a resume point, with the smaller rate.

    Args:
        err: the error that every worker has raised.
        epoch: the epoch in which it was raised.
        end_writing: in the chief, returns once no resume point is being written; None in every other worker.

    Raises:
        RestartError: the rollback is stored.
        DivergedError: the run has been rolled back as often as it may be.
    """
    note = ""
    if end_writing is not None:
        rollbacks = load_rollbacks(run)
        if len(rollbacks) < MAX_ROLLBACKS:
            add_rollback(run, epoch, str(err))
            end_writing()
            kept = _delete_what_follows(run)
            factor = rate_factor(load_rollbacks(run))
            note = (
                f"epoch {epoch} diverged: rollback {len(rollbacks) + 1} of {MAX_ROLLBACKS}, to the end of epoch "
                f"{kept}, with {factor:g} of the learning rate"
            )
    note = agree(note)
    if note:
        raise RestartError(note) from err
    raise DivergedError(
        f"{err} It was rolled back {MAX_ROLLBACKS} times, each time to half the rate."
    ) from err


def _delete_what_follows(run: str) -> int:
    """Deletes the resume points and, from the last on, the checkpoints after the stable one; returns its epoch."""
    delete_resume_points(run)
    checkpoints = list_checkpoints(run)
    stable = find_stable(checkpoints)
    for checkpoint in reversed(checkpoints):
        if checkpoint.epoch > stable:
            delete_checkpoint(checkpoint.uri)
    return stable
