"""When what happens: one epoch is macro-batches through the compiled call, with the figures read one call behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.record import Rows
from cnnlib.feed.device import MacroBatch
from cnnlib.training.observe.progress import Progress, Throughput
from cnnlib.training.step import TrainCall


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One epoch, over all workers. `data_wait` is the chief's share of time waiting for data, 0..1."""

    steps: int
    rows: int
    loss: float
    accuracy: float
    seconds: float
    images_per_s: float
    data_wait: float


def run_epoch(
    train_call: TrainCall,
    batches: Iterable[MacroBatch],
    *,
    batch_size: int,
    epoch: int,
    first_step: int,
    progress: Progress,
) -> EpochMetrics:
    """Trains on one epoch's macro-batches.

    Args:
        train_call: see `build_train_call`; every worker must be given the same number of steps.
        batch_size: the global batch.
        epoch: from 1.
        first_step: steps done before this epoch.
    """
    throughput = Throughput()
    sums, steps = np.zeros(2), 0
    running: tuple[Any, int] | None = None

    def finish(call: tuple[Any, int]) -> None:
        nonlocal sums, steps
        result, call_steps = call
        sums += result.numpy()
        steps += call_steps
        rows = steps * batch_size
        progress.update(
            epoch=epoch,
            step=first_step + steps,
            loss=float(sums[0]) / rows,
            accuracy=float(sums[1]) / rows,
            throughput=throughput,
        )

    for batch in batches:
        throughput.add(batch.steps * batch_size, batch.waited_s)
        result = train_call(batch.images, batch.labels)
        # The figures of the call before: asking for this one's would wait for it, and leave a GPU idle meanwhile.
        if running is not None:
            finish(running)
        running = (result, batch.steps)
    if running is not None:
        finish(running)
    rows = steps * batch_size
    return EpochMetrics(
        steps=steps,
        rows=rows,
        loss=float(sums[0]) / rows,
        accuracy=float(sums[1]) / rows,
        seconds=throughput.seconds,
        images_per_s=throughput.images_per_s,
        data_wait=throughput.data_wait,
    )


def score_rows(score_call: Any, validation_rows: Iterable[Rows], batch_rows: int) -> npt.NDArray[np.float64]:
    """Scores a worker's held-out rows: float64 [3], loss sum, correct rows, rows.

    The last batch is filled up with rows that do not count, so that its shape is that of the others.
    """
    sums = np.zeros(3)
    for rows in validation_rows:
        for first in range(0, len(rows), batch_rows):
            part = np.arange(first, min(first + batch_rows, len(rows)))
            filled = np.resize(part, batch_rows)
            mask = (np.arange(batch_rows) < len(part)).astype(np.float32)
            sums[:2] += score_call(rows.images[filled], rows.labels[filled], mask).numpy()
            sums[2] += len(part)
    return sums
