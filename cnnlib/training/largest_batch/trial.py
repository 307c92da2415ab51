"""Trains a few steps with one batch size, in a process of its own, and says how much memory that takes.

The parent ends the process once it takes more than it may, long before the kernel would end another one in its place;
and should the kernel be faster, it ends this one, and the parent goes on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnlib.errors import CnnlibError, TrainingError
from cnnlib.memory import read_fields
from cnnlib.models.runtime import load_tensorflow
from cnnlib.training.plan import WorkerTask

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from cnnlib.training.train_state import TrainState

_LOOK_S = 0.05
_KIB = 1024
_MOST_KILLABLE = "1000"
# The kernel kills a process if memory runs out; C++ aborts one that is refused memory.
_OUT_OF_MEMORY = {-signal.SIGKILL: "the kernel killed it", -signal.SIGABRT: "it was refused memory"}

_OUT_OF_MEMORY_TEXTS = ("out of memory", "out_of_memory", "resource_exhausted", "failed to allocate")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one batch size took.

    Attributes:
        worker_batch_size: rows of a step.
        peak_bytes: the most memory at a time, of the process, or on a GPU of TensorFlow there; None: not known.
        images_per_s: of the median step; None: it trained no step.
        problem: why it does not fit; None: it fits.
    """

    worker_batch_size: int
    peak_bytes: int | None
    images_per_s: float | None
    problem: str | None

    @property
    def fits(self) -> bool:
        """True if it stayed within its memory."""
        return self.problem is None


@dataclass(frozen=True, kw_only=True)
class _Measured:
    peak_bytes: int
    step_s: float


def try_batch(task: WorkerTask, *, steps: int, memory_bytes: int | None) -> Trial:
    """Tries the batch size of a task of one worker.

    Args:
        steps: steps whose time is taken.
        memory_bytes: the most memory that it may take; None: all that there is.

    Raises:
        CnnlibError: the model cannot be trained, whatever the memory.
        TrainingError: the process ended without a result, and not for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(task, steps, sender), daemon=True)
    process.start()
    sender.close()  # so that the end of the process closes the pipe
    try:
        return _wait(process, receiver, task, memory_bytes)
    finally:
        process.kill()
        process.join()
        receiver.close()


def is_out_of_memory(err: BaseException) -> bool:
    """Returns whether an error says that there was too little memory, of the machine or of a GPU.

    Kernels of a GPU, and XLA, say it in the text of an error of another class.
    """
    text = str(err).lower()
    return (
        isinstance(err, MemoryError)
        or type(err).__name__ == "ResourceExhaustedError"
        or any(words in text for words in _OUT_OF_MEMORY_TEXTS)
    )


def _wait(process: SpawnProcess, receiver: Connection, task: WorkerTask, memory_bytes: int | None) -> Trial:
    """Waits for the result, and looks at the memory meanwhile."""
    rows, on_gpu, peak = task.config.batch_size, task.config.gpus_per_worker > 0, None
    while not receiver.poll(_LOOK_S):
        peak = None if on_gpu else _peak_bytes(process.pid) or peak
        if memory_bytes is not None and peak is not None and peak > memory_bytes:
            return _too_large(rows, peak, "more memory than it may take")
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        if (reason := _OUT_OF_MEMORY.get(process.exitcode or 0)) is None:
            raise TrainingError(
                f"The trial of {rows} rows ended with exit code {process.exitcode} and without a result. Its output "
                "above says why."
            ) from None
        return _too_large(rows, peak, reason)
    if isinstance(result, CnnlibError):
        raise result
    if isinstance(result, str):
        return _too_large(rows, peak, result)
    fits = memory_bytes is None or result.peak_bytes <= memory_bytes
    return Trial(
        worker_batch_size=rows,
        peak_bytes=result.peak_bytes,
        images_per_s=rows / result.step_s,
        problem=None if fits else "more memory than it may take",
    )


def _too_large(rows: int, peak_bytes: int | None, problem: str) -> Trial:
    return Trial(worker_batch_size=rows, peak_bytes=peak_bytes, images_per_s=None, problem=problem)


def _peak_bytes(pid: int | None) -> int | None:
    """Returns the most memory that a process has had; None if it has ended, or the system does not tell."""
    kib = read_fields(Path(f"/proc/{pid}/status")).get("VmHWM")
    return None if kib is None else kib * _KIB


def _run(task: WorkerTask, steps: int, sender: Connection) -> None:
    """Runs the trial, in its process, and sends a `_Measured`, an error, or in words why the memory was not enough."""
    sys.stdout = sys.stderr
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(_MOST_KILLABLE)
    try:
        result: _Measured | CnnlibError | str = _measure(task, steps)
    except CnnlibError as err:
        result = err
    except Exception as err:  # TensorFlow's classes cannot be named before it is loaded
        if not is_out_of_memory(err):
            raise
        result = "it was refused memory"
    sender.send(result)
    sender.close()
    os._exit(0)  # at once: nothing else is to be written


def _measure(task: WorkerTask, steps: int) -> _Measured:
    load_tensorflow(task.cpus, task.chunks, gpus=task.config.gpus_per_worker > 0)
    from cnnlib.training.strategy import build_strategy
    from cnnlib.training.train_state import build_train_state

    state = build_train_state(task, build_strategy(), task.chunks)
    seconds = list(_time_steps(state, task, steps))
    return _Measured(
        peak_bytes=_own_peak_bytes(on_gpu=task.config.gpus_per_worker > 0), step_s=float(np.median(seconds))
    )


def _time_steps(state: TrainState, task: WorkerTask, steps: int) -> Iterator[float]:
    """Yields the seconds of the steps after the first one, which compiles. Any pixels take as much memory and time."""
    rng, rows = np.random.default_rng(0), task.config.batch_size
    images = rng.integers(0, 256, (1, rows, *task.manifest.image_shape), np.uint8)
    labels = rng.integers(0, task.manifest.num_classes, (1, rows)).astype(np.int32)
    for step in range(steps + 1):
        start = time.perf_counter()
        state.train_call(images, labels).numpy()
        if step:
            yield time.perf_counter() - start


def _own_peak_bytes(*, on_gpu: bool) -> int:
    if on_gpu:
        import tensorflow as tf

        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * _KIB
