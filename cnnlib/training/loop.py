"""Decides when things happen: an epoch passes macro-batches to the compiled call and reads each result a call later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cnnlib.dataset.record import Rows
from cnnlib.errors import DivergedError
from cnnlib.feed.device import MacroBatch
from cnnlib.runs.resume_points import EpochPart
from cnnlib.training.observe.progress import Progress, Throughput
from cnnlib.training.step import ScoreCall, TrainCall


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """The metrics of one epoch over all workers.

    Attributes:
        steps: steps of the epoch that are done; fewer than it has if the chief requested to stop.
        data_wait: the fraction of time that the chief waited for data.
        stopped: True if the chief requested to stop.
    """

    steps: int
    rows: int
    loss: float
    accuracy: float
    seconds: float
    images_per_s: float
    data_wait: float
    stopped: bool


SAVE, STOP = 1.0, 2.0
"""What the chief may request of all workers: to save a resume point, or to save one and to stop."""


class ResumePoints(Protocol):
    """Saves resume points inside an epoch. Every worker has one, and all of them save after the same calls."""

    def request(self) -> float:
        """Returns what this worker requests of all: 0, `SAVE` or `STOP`. It is heard a call later; ask until it is."""

    def is_due(self, step: int) -> bool:
        """Returns whether one is due after `step` steps of the run; the same in every worker."""

    def save(self, step: int, part: EpochPart) -> None:
        """Saves one; nothing is running on the device, and all workers are in this call."""


class _Call(NamedTuple):
    """A call whose result has not been read yet."""

    result: tf.Tensor
    steps: int


def run_epoch(
    train_call: TrainCall,
    batches: Iterable[MacroBatch],
    *,
    batch_size: int,
    steps_per_epoch: int,
    done: EpochPart,
    first_step: int,
    progress: Progress | None,
    learning_rate: Callable[[], float],
    resume_points: ResumePoints | None = None,
) -> EpochMetrics:
    """Trains on the macro-batches of one epoch, or of what is left of it.

    Args:
        train_call: see `build_train_call`; every worker must get the same number of steps.
        batches: the batches of the steps of the epoch that are not done.
        batch_size: the global batch.
        done: the part of the epoch that is done; nothing but the number of the epoch, unless the run was interrupted.
        first_step: steps of the run before this epoch.
        progress: shows the end of each call; None: nothing is shown.
        learning_rate: returns the rate of the next step, for the error message.
        resume_points: saves the state inside the epoch; None: nothing is saved.

    Raises:
        DivergedError: the loss of a call is not finite. Every worker raises it, because all get the same sums.
    """
    throughput = Throughput()
    epoch, sums, steps = done.epoch, np.array([done.loss_sum, done.correct]), done.steps
    running: _Call | None = None
    request = 0.0  # the most that the chief has requested, and was not done yet

    def finish(call: _Call) -> None:
        nonlocal sums, steps, request
        *_, requested = call_sums = call.result.numpy()  # waits until the device has done the call
        request = max(request, float(requested))
        throughput.add_rows(call.steps * batch_size)
        steps += call.steps
        if not np.isfinite(call_sums[0]):
            raise _diverged(f"loss is {call_sums[0]}", epoch, first_step + steps, learning_rate())
        sums += call_sums[:2]
        rows = steps * batch_size
        if progress is not None:
            progress.update(
                epoch=epoch,
                step=first_step + steps,
                loss=float(sums[0]) / rows,
                accuracy=float(sums[1]) / rows,
                throughput=throughput,
            )

    started_steps = done.steps  # the steps whose call has begun
    for batch in batches:
        throughput.add_wait(batch.waited_s)
        own_request = 0.0 if resume_points is None else resume_points.request()
        result = train_call(batch.images, batch.labels, own_request)
        # Read the result of the previous call: reading this one would wait for it, and leave a GPU idle meanwhile.
        if running is not None:
            finish(running)
        running = _Call(result, batch.steps)
        started_steps += batch.steps
        step = first_step + started_steps
        if resume_points is not None and (resume_points.is_due(step) or request):
            if started_steps == steps_per_epoch:
                continue  # the epoch ends with a checkpoint
            finish(running)
            running = None
            seconds = done.seconds + throughput.seconds
            resume_points.save(step, EpochPart(epoch, steps, float(sums[0]), float(sums[1]), seconds))
            if request == STOP:
                break
            request = 0.0
    if running is not None:
        finish(running)
    rows = steps * batch_size
    throughput.stop()
    return EpochMetrics(
        steps=steps,
        rows=rows,
        loss=float(sums[0]) / rows,
        accuracy=float(sums[1]) / rows,
        seconds=done.seconds + throughput.seconds,
        images_per_s=throughput.images_per_s,
        data_wait=throughput.data_wait,
        stopped=request == STOP,
    )


def check_weights(model: keras.Model, *, epoch: int, step: int, learning_rate: float) -> None:
    """Checks that all weights are finite; the loss of the last step was computed before its update.

    Every worker raises the same, because all have the same weights after an epoch.

    Raises:
        DivergedError: a weight is not finite.
    """
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        # Added up as float64, which does not overflow: the sum is finite if and only if every value is.
        if not np.isfinite(np.sum(values, dtype=np.float64)):
            raise _diverged(f"weight {weight.path} is not finite", epoch, step, learning_rate)


def score_rows(
    score_call: ScoreCall, validation_rows: Iterable[Rows], batch_rows: int
) -> npt.NDArray[np.float64]:
    """Scores the validation rows of a worker and returns float64 [3]: loss sum, correct rows, rows.

    The last batch is filled up with rows that do not count, so that all batches have one shape.
    """
    sums = np.zeros(3)
    for rows in validation_rows:
        for first in range(0, len(rows), batch_rows):
            batch = np.arange(first, min(first + batch_rows, len(rows)))
            filled = np.resize(batch, batch_rows)
            mask = (np.arange(batch_rows) < len(batch)).astype(np.float32)
            sums[:2] += score_call(rows.images[filled], rows.labels[filled], mask).numpy()
            sums[2] += len(batch)
    return sums


def check_validation(loss: float, *, epoch: int, step: int, learning_rate: float) -> None:
    """Checks that the loss on the validation rows is finite. Every worker raises the same, because all get the sum.

    Raises:
        DivergedError: it is not.
    """
    if not np.isfinite(loss):
        raise _diverged(f"validation loss is {loss}", epoch, step, learning_rate)


def _diverged(what: str, epoch: int, step: int, learning_rate: float) -> DivergedError:
    return DivergedError(
        f"The training diverged: the {what} at step {step} (epoch {epoch}, learning rate "
        f"{learning_rate:g}). Choose a lower --learning-rate, clip the gradients with --optimizer.clip-norm 1, or "
        "check the data. The checkpoints of earlier epochs are kept; give the changed run another --name."
    )
