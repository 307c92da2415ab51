"""Ends a worker that makes no progress, so that Ray restarts all of them from the last checkpoint or resume point.

A worker that hangs leaves the others in a collective that never ends, and TensorFlow has no time limit for that. Each
worker therefore watches itself, in a thread. Those that wait for the one that hangs say so and end; the one that hangs
says where it stands or, if its whole process was stopped, nothing. Then Ray ends it with the others.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from cnnlib.log import log_event

ItemT = TypeVar("ItemT")

_LOOKS = 20  # in the time limit
_MOST_S_BETWEEN_LOOKS = 5.0


def end_process() -> None:
    """Ends this process as the kernel would; Ray sees that it is gone, and why is in the log."""
    os.kill(os.getpid(), signal.SIGKILL)


class Watchdog:
    """Watches one worker."""

    def __init__(self, timeout_s: float, rank: int, end: Callable[[], None] = end_process) -> None:
        """Starts to watch.

        Args:
            timeout_s: the most seconds from one `doing` to the next; 0: no limit.
            rank: of the worker, for the log.
            end: is called once, after the line in the log.
        """
        self._timeout_s = timeout_s
        self._rank = rank
        self._end = end
        self._state: tuple[str, float] | None = ("starts", time.monotonic())
        self._stopped = threading.Event()
        if timeout_s:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def doing(self, what: str) -> None:
        """Says what the worker does from now on, and that it has made progress."""
        self._state = (what, time.monotonic())

    def rest(self) -> None:
        """Suspends the time limit until the next `doing`."""
        self._state = None

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()

    def follow(self, items: Iterable[ItemT], part: str, wait: str, use: str) -> Iterator[ItemT]:
        """Yields items, and says at each whether the worker waits for it or uses it.

        Args:
            part: of the training, as "epoch 3".
            wait, use: what the worker does meanwhile.
        """
        iterator = iter(items)
        number = 1
        while True:
            self.doing(f"{part}, call {number}: {wait}")
            try:
                item = next(iterator)
            except StopIteration:
                break
            self.doing(f"{part}, call {number}: {use}")
            yield item
            number += 1
        self.doing(f"{part}: ends it with the other workers")

    def _watch(self) -> None:
        pause_s = min(_MOST_S_BETWEEN_LOOKS, self._timeout_s / _LOOKS)
        while not self._stopped.wait(pause_s):
            state = self._state
            if state is None:
                continue
            what, since = state
            seconds = time.monotonic() - since
            if seconds > self._timeout_s:
                log_event(
                    "hang",
                    rank=self._rank,
                    seconds=seconds,
                    stands=what,
                    note="this worker ends, and all start again; one that writes no such line was stopped itself",
                )
                self._end()
                return
