"""Shows the progress of an evaluation: a live bar on a terminal, else a log line at most every 10 s. Driver only.

A row counts once per model that scores it: two models on 10,000 rows are 20,000 rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from tqdm import tqdm

from cnnlib.log import log_event

Clock = Callable[[], float]
"""Returns seconds since some fixed moment."""

LINE_INTERVAL_S = 10.0
_SHORTEST_S = 1e-9


class Progress(Protocol):
    """Shows how many rows are scored; the driver calls it as partial scores arrive."""

    def update(self, rows: int, seconds: float) -> None:
        """Counts rows that were scored; see `Throughput.add`."""

    def pause(self) -> None:
        """Ends a pass: clears the terminal for other output, and stops the time until the next rows."""

    def close(self) -> None:
        """Ends the progress, whether or not all rows were scored."""


def build_progress(num_rows: int, *, live: bool) -> Progress:
    """Builds the progress of an evaluation.

    Args:
        num_rows: rows to score, times the models that score them.
        live: True if a person watches stderr on a terminal.
    """
    return LiveBar(num_rows) if live else LogLines(num_rows)


class Throughput:
    """Counts scored rows. Time runs from the moment when the first of them began to be scored."""

    def __init__(self, num_rows: int, clock: Clock = time.monotonic) -> None:
        self.num_rows = num_rows
        self.rows = 0
        self._clock = clock
        self._started: float | None = None
        self._seconds_before = 0.0  # of earlier passes

    def add(self, rows: int, seconds: float) -> None:
        """Counts rows that have just arrived.

        Args:
            rows: number of rows.
            seconds: how long it took to score them. For the first rows it gives the time when scoring began: the time
                to start the predictors does not lower the rate.
        """
        if self._started is None:
            self._started = self._clock() - seconds
        self.rows += rows

    def pause(self) -> None:
        """Stops the time until the next rows: the predictors of the next pass must start first."""
        self._seconds_before, self._started = self._seconds, None

    @property
    def images_per_s(self) -> float:
        """Rows per second so far, by all predictors together; 0 before the first rows."""
        return self.rows / max(self._seconds, _SHORTEST_S)

    @property
    def _seconds(self) -> float:
        return self._seconds_before + (0.0 if self._started is None else self._clock() - self._started)

    @property
    def left_s(self) -> float | None:
        """Seconds until all rows are scored, at the rate so far; None before the first rows."""
        rate = self.images_per_s
        return (self.num_rows - self.rows) / rate if rate else None


class LogLines:
    """Writes one line when the first rows are scored, then one at most every 10 s, and one at the end."""

    def __init__(self, num_rows: int, clock: Clock = time.monotonic) -> None:
        self._throughput = Throughput(num_rows, clock)
        self._clock = clock
        self._next_line: float | None = None
        self._written_rows = 0

    def update(self, rows: int, seconds: float) -> None:
        """Counts rows, and writes a line if the last one is 10 s old."""
        self._throughput.add(rows, seconds)
        now = self._clock()
        if self._next_line is not None and now < self._next_line:
            return
        self._next_line = now + LINE_INTERVAL_S
        self._write_line()

    def pause(self) -> None:
        """Writes a line, if rows were scored since the last one, and stops the time until the next rows."""
        self.close()
        self._throughput.pause()

    def close(self) -> None:
        """Writes a last line, if rows were scored since the one before."""
        if self._throughput.rows > self._written_rows:
            self._write_line()

    def _write_line(self) -> None:
        left_s = self._throughput.left_s
        self._written_rows = self._throughput.rows
        log_event(
            "score",
            rows=self._throughput.rows,
            of=self._throughput.num_rows,
            images_per_s=self._throughput.images_per_s,
            left_s=None if left_s is None else round(left_s),
        )


class LiveBar:
    """Draws a progress bar on the terminal's last line, on stderr."""

    def __init__(self, num_rows: int, clock: Clock = time.monotonic) -> None:
        self._throughput = Throughput(num_rows, clock)
        self._bar = tqdm(
            total=num_rows,
            desc="evaluating",
            delay=1,  # no bar before the first rows: Ray writes lines of its own while predictors start
            leave=False,
            dynamic_ncols=True,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} rows{postfix}",
        )

    def update(self, rows: int, seconds: float) -> None:
        """Counts rows, and redraws the bar."""
        self._throughput.add(rows, seconds)
        self._bar.n = self._throughput.rows
        text = f"{self._throughput.images_per_s:,.0f} images/s"
        left_s = self._throughput.left_s
        if left_s is not None:
            text += f", {tqdm.format_interval(left_s)} left"
        self._bar.set_postfix_str(text)

    def pause(self) -> None:
        """Clears the bar and stops the time until the next update."""
        self._throughput.pause()
        self._bar.clear()

    def close(self) -> None:
        """Removes the bar from the terminal."""
        self._bar.clear()  # close() alone takes a bar with a delay for one that was never drawn
        self._bar.close()
