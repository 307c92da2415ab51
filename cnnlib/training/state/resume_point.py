"""Copies the state of a worker inside an epoch, writes it as a resume point, and restores it.

Besides what a checkpoint holds, a resume point has the moving statistics of batch normalisation of every worker: each
worker updates its own, and they are averaged at the end of the epoch only. With as many workers as before, each
continues with its own, bit for bit; with another number, all continue with their average.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from cnnlib.errors import CheckpointError, CnnlibError
from cnnlib.log import log_event
from cnnlib.runs.resume_points import EpochPart, ResumePoint, delete_resume_points, write_resume_point
from cnnlib.storage import publish
from cnnlib.training.state.background import BackgroundWriter
from cnnlib.training.state.checkpoint import Array, assign_group, copy_state, state_groups
from cnnlib.training.strategy import moving_statistics

_STATISTICS = "statistics"


def copy_resume_state(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, statistics: Sequence[Array]
) -> dict[str, Array]:
    """Copies the state of the run into host memory, by name.

    Args:
        statistics: what the call of `build_gather_call` returned.
    """
    return {
        **copy_state({**state_groups(model, optimizer), "weights": model.weights}),
        **{f"{_STATISTICS}/{index:04d}": values for index, values in enumerate(statistics)},
    }


def restore_resume_point(
    point: ResumePoint, model: keras.Model, optimizer: keras.optimizers.Optimizer, *, rank: int, workers: int
) -> None:
    """Restores a resume point into a built model and a built optimizer. Every worker calls it.

    Raises:
        CheckpointError: it belongs to another model.
        DigestError: its bytes are not those of its manifest.
    """
    groups = {**state_groups(model, optimizer), "weights": model.weights}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.npz")
        publish.download_checked(point.state_uri, path, point.digest)
        with np.load(path) as state:
            for group, variables in groups.items():
                assign_group(group, variables, state, point.state_uri)
            for index, variable in enumerate(moving_statistics(model)):
                variable.assign(_own_statistics(state, index, point, rank=rank, workers=workers))


def _own_statistics(
    state: Mapping[str, Array], index: int, point: ResumePoint, *, rank: int, workers: int
) -> Array:
    try:
        of_workers = state[f"{_STATISTICS}/{index:04d}"]
    except KeyError as err:
        raise CheckpointError(f"{point.state_uri} belongs to another model: it lacks {err}.") from err
    own: Array = of_workers[rank] if len(of_workers) == workers else of_workers.mean(axis=0)
    return own


class ResumePointWriter:
    """Writes resume points in the background, and deletes those before. The chief has one."""

    def __init__(self, run: str, writer: BackgroundWriter) -> None:
        self._run = run
        self._writer = writer
        self._last: str | None = None
        self._has_any = False

    def write(
        self,
        state: Mapping[str, Array],
        step: int,
        part: EpochPart,
        blocked_s: float,
        *,
        must_be: bool = False,
    ) -> None:
        """Starts to write; skips this resume point if a checkpoint or the one before is still being written.

        An error is logged, and the training goes on: its checkpoint at the end of the epoch does not need it.

        Args:
            blocked_s: seconds for which the training stood still to copy the state, for the log.
            must_be: wait for what is being written instead of skipping this one.

        Raises:
            CnnlibError: the checkpoint of the epoch before could not be written.
        """
        if self._writer.is_busy() and not must_be:
            log_event("resume-point", step=step, note="skipped, because storage is busy with the one before")
            return
        if not all(np.isfinite(np.sum(values, dtype=np.float64)) for values in state.values()):
            return  # the next call finds that the training has diverged
        self._has_any = True
        self._writer.start(lambda: self._write(state, step, part, blocked_s), "resume-point")

    def adopt(self, uri: str) -> None:
        """Takes over the resume point that the run goes on from, to be deleted as if it had been written here."""
        self._last = uri

    def clear(self) -> None:
        """Deletes all resume points: the epoch has its checkpoint. Call it while none is being written."""
        if self._has_any or self._last is not None:
            self._has_any, self._last = False, None
            delete_resume_points(self._run)

    def _write(self, state: Mapping[str, Array], step: int, part: EpochPart, blocked_s: float) -> None:
        started = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "state.npz")
                np.savez(path, allow_pickle=False, **state)
                uri = write_resume_point(self._run, step, part, path)
            kept, self._last = self._last, uri
            # The one before stays until the next: it serves if the newest turns out to be damaged.
            delete_resume_points(self._run, keep=[uri, *([kept] if kept else [])])
        except (CnnlibError, OSError) as err:
            log_event("resume-point", step=step, note=f"failed, and the training goes on: {err}")
        else:
            seconds = time.monotonic() - started
            log_event("resume-point", step=step, epoch=part.epoch, blocked_s=blocked_s, written_in_s=seconds)
