"""What a person sees while a run goes on: a live bar on a terminal, else one line per N steps. The chief's alone."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from cnnlib.log import log_event


class Throughput:
    """Rows, waiting and time since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._rows = 0
        self._waited_s = 0.0

    def add(self, rows: int, waited_s: float) -> None:
        """Counts rows that were trained on, and the seconds spent waiting for them."""
        self._rows += rows
        self._waited_s += waited_s

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started

    @property
    def images_per_s(self) -> float:
        """Rows per second so far, over all workers."""
        return self._rows / max(self.seconds, 1e-9)

    @property
    def data_wait(self) -> float:
        """Share of the time spent waiting for data so far, 0..1."""
        return self._waited_s / max(self.seconds, 1e-9)


class Progress(Protocol):
    """Told of every call's end."""

    def update(self, *, epoch: int, step: int, loss: float, accuracy: float, throughput: Throughput) -> None:
        """`step` steps of the run are done; loss and accuracy are the epoch's so far."""

    def close(self) -> None:
        """The run is over."""


class Silent:
    """For the workers that are not the chief."""

    def update(self, **_: Any) -> None:
        """Says nothing."""

    def close(self) -> None:
        """Says nothing."""


class LogLines:
    """One line as soon as steps are done, then one per `every` steps."""

    def __init__(self, every: int, epochs: int) -> None:
        self._every = every
        self._epochs = epochs
        self._next = 0  # the first line as soon as steps are done

    def update(self, *, epoch: int, step: int, loss: float, accuracy: float, throughput: Throughput) -> None:
        """Writes a line when `every` steps have passed since the last."""
        if step < self._next:
            return
        self._next = (step // self._every + 1) * self._every
        log_event(
            "train",
            step=step,
            epoch=f"{epoch}/{self._epochs}",
            loss=loss,
            accuracy=accuracy,
            images_per_s=throughput.images_per_s,
            data_wait=throughput.data_wait,
        )

    def close(self) -> None:
        """Nothing to close."""


class LiveBar:
    """A progress bar on the driver's terminal: Ray carries it there from the worker's stdout."""

    def __init__(self, total_steps: int, epochs: int) -> None:
        from ray.experimental import tqdm_ray

        self._epochs = epochs
        self._bar = tqdm_ray.tqdm(total=total_steps, unit="step", desc="training")

    def update(self, *, epoch: int, step: int, loss: float, accuracy: float, throughput: Throughput) -> None:
        """Moves the bar to `step`."""
        self._bar.n = step  # before the text: one message carries both, and a second within 1 s is dropped
        self._bar.set_description(
            f"epoch {epoch}/{self._epochs} loss {loss:.3f} accuracy {accuracy:.3f} "
            f"{throughput.images_per_s:,.0f} images/s, {throughput.data_wait:.0%} waiting for data"
        )
        sys.stdout.flush()  # Ray reads the bar from there, and a worker's stdout is buffered

    def close(self) -> None:
        """Takes the bar off the terminal."""
        self._bar.close()
        sys.stdout.flush()
