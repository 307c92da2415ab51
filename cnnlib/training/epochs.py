"""Trains the epochs of a run that are left: trains each one, scores its validation rows, records and reports it.

Every worker takes the same steps here and makes the same decision to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cnnlib.feed.device import iter_macro_batches
from cnnlib.feed.feed import Feed
from cnnlib.runs.early_stopping import is_stopped
from cnnlib.runs.history import EpochRecord
from cnnlib.runs.resume_points import EpochPart
from cnnlib.training.chief import Chief, report_values
from cnnlib.training.loop import (
    EpochMetrics,
    ResumePoints,
    check_validation,
    check_weights,
    run_epoch,
    score_rows,
)
from cnnlib.training.plan import WorkerTask
from cnnlib.training.ray.session import report_epoch
from cnnlib.training.state.ema import averaged_weights
from cnnlib.training.step import TrainCall
from cnnlib.training.strategy import average_moving_statistics, replica_device
from cnnlib.training.train_state import TrainState
from cnnlib.training.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """What one worker trains, with what, and on what.

    Attributes:
        train_call: that of the state, or what the chief watches it through.
        chief: None in every other worker.
    """

    task: WorkerTask
    strategy: tf.distribute.Strategy
    state: TrainState
    train_call: TrainCall
    feed: Feed
    resume_points: ResumePoints
    watchdog: Watchdog
    chief: Chief | None


def train_epochs(trainee: Trainee, history: list[EpochRecord], done: EpochPart) -> bool:
    """Trains up to the last epoch, or until early stopping or the chief ends the run.

    Args:
        history: the records of the epochs that are done; those that follow are added.
        done: what is done of the epoch after them.

    Returns:
        True if the chief requested to stop, and a resume point or a checkpoint holds all that was trained.

    Raises:
        DivergedError: a loss or a weight is not finite. Every worker raises it.
    """
    task, config, state = trainee.task, trainee.task.config, trainee.state
    for epoch in range(len(history) + 1, config.epochs + 1):
        if is_stopped(history, config.early_stopping):
            return False
        first_step = history[-1].step if history else 0
        metrics = _train_epoch(trainee, done, first_step)
        if metrics.steps < task.steps_per_epoch:
            return metrics.stopped
        done = EpochPart(epoch=epoch + 1)
        average_moving_statistics(trainee.strategy, state.model)
        step = first_step + metrics.steps
        check_weights(state.model, epoch=epoch, step=step, learning_rate=state.learning_rate)
        loss, accuracy = _validate(trainee, epoch, step) if task.validates else (None, None)
        record = EpochRecord(
            epoch=epoch,
            step=step,
            loss=metrics.loss,
            accuracy=metrics.accuracy,
            validation_loss=loss,
            validation_accuracy=accuracy,
            learning_rate=state.learning_rate,
            images_per_s=metrics.images_per_s,
            data_wait=metrics.data_wait,
            seconds=metrics.seconds,
            time=datetime.now(UTC),
            rows=metrics.rows,
        )
        history.append(record)
        _end_epoch(trainee, history)
        if metrics.stopped:
            return True
    return False


def _train_epoch(trainee: Trainee, done: EpochPart, first_step: int) -> EpochMetrics:
    task = trainee.task
    batches = trainee.feed.epoch(done.epoch, task.steps_per_epoch, task.steps_per_call, done.steps)
    return run_epoch(
        trainee.train_call,
        trainee.watchdog.follow(
            iter_macro_batches(batches, replica_device(trainee.strategy)),
            f"epoch {done.epoch}",
            wait="waits for rows",
            use="trains with the other workers",
        ),
        batch_size=task.config.batch_size,
        steps_per_epoch=task.steps_per_epoch,
        done=done,
        first_step=first_step,
        progress=trainee.chief.progress if trainee.chief else None,
        learning_rate=lambda: trainee.state.learning_rate,
        resume_points=trainee.resume_points,
    )


def _validate(trainee: Trainee, epoch: int, step: int) -> tuple[float, float]:
    """Returns loss and accuracy, 0..1, on the validation rows of all workers."""
    state = trainee.state
    with averaged_weights(state.model, state.optimizer):
        rows = trainee.watchdog.follow(
            trainee.feed.validation_rows(),
            f"validation of epoch {epoch}",
            wait="waits for rows",
            use="scores them",
        )
        own_sums = score_rows(state.score_call, rows, state.scored_rows)
    sums: npt.NDArray[np.float64] = state.sum_call(own_sums).numpy()
    loss_sum, correct, scored = sums
    check_validation(float(loss_sum), epoch=epoch, step=step, learning_rate=state.learning_rate)
    return float(loss_sum / scored), float(correct / scored)


def _end_epoch(trainee: Trainee, history: list[EpochRecord]) -> None:
    """Returns once the chief has copied the state after the last epoch; it is stored while the next epoch runs."""
    chief, record = trainee.chief, history[-1]
    what = "copies the state for the checkpoint" if chief else "waits for the chief"
    trainee.watchdog.doing(f"epoch {record.epoch}: {what}")
    if chief:
        chief.end_epoch(trainee.state, history)
    report_epoch(report_values(record))
