"""Shows a person how far a run is, on the chief alone: a live bar on a terminal, else a line every N steps."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from cnnlib.log import log_event
from cnnlib.training.ray.session import open_bar


class Throughput:
    """Counts rows and waiting time from the moment it is created."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stopped: float | None = None
        self._rows = 0
        self._waited_s = 0.0

    def add_wait(self, waited_s: float) -> None:
        """Adds seconds spent waiting for rows."""
        self._waited_s += waited_s

    def add_rows(self, rows: int) -> None:
        """Adds rows that were trained on: their result has been read, so they are not only queued on a device."""
        self._rows += rows

    def stop(self) -> None:
        """Stops the clock, so that all numbers are of the same moment."""
        self._stopped = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far, or until `stop`, on a clock that never goes back."""
        return (self._stopped or time.perf_counter()) - self._started

    @property
    def images_per_s(self) -> float:
        """Rows per second so far, over all workers."""
        return self._rows / max(self.seconds, 1e-9)

    @property
    def data_wait(self) -> float:
        """Fraction of the time so far that was spent waiting for data, 0..1."""
        return self._waited_s / max(self.seconds, 1e-9)


class Progress(Protocol):
    """Shows how far a run is."""

    def update(self, *, epoch: int, step: int, loss: float, accuracy: float, throughput: Throughput) -> None:
        """Shows the end of a call, after `step` steps of the run; loss and accuracy are those of the epoch so far."""

    def close(self) -> None:
        """Ends the display: the run is over."""


class LogLines:
    """Logs one line after the first call, then one every `every` steps."""

    def __init__(self, every: int, epochs: int) -> None:
        self._every = every
        self._epochs = epochs
        self._next = 0

    def update(self, *, epoch: int, step: int, loss: float, accuracy: float, throughput: Throughput) -> None:
        """Logs a line if `every` steps have passed since the last one."""
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
        """Does nothing: log lines need no end."""


class LiveBar:
    """Shows a progress bar on the driver's terminal."""

    def __init__(self, total_steps: int, epochs: int) -> None:
        self._epochs = epochs
        self._bar = open_bar(total_steps)

    def update(self, *, epoch: int, step: int, loss: float, accuracy: float, throughput: Throughput) -> None:
        """Moves the bar to `step`."""
        # Set before the text: `set_description` sends both in one message, and Ray drops a second message within 1 s.
        self._bar.n = step
        self._bar.set_description(
            f"epoch {epoch}/{self._epochs} loss {loss:.3f} accuracy {accuracy:.3f} "
            f"{throughput.images_per_s:,.0f} images/s, {throughput.data_wait:.0%} waiting for data"
        )
        sys.stdout.flush()  # Ray reads the bar from a worker's stdout, which is buffered

    def close(self) -> None:
        """Removes the bar from the terminal."""
        self._bar.close()
        sys.stdout.flush()
