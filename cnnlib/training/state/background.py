"""Writes to storage in a thread while the training goes on: one thing at a time, in the order of the calls."""

from __future__ import annotations

import threading
from collections.abc import Callable


class BackgroundWriter:
    """Runs one function at a time in a thread. The chief has one, for its checkpoints and its resume points.

    So a resume point never is in storage before the checkpoint of the epoch before it.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def is_busy(self) -> bool:
        """Returns whether something is being written."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, write: Callable[[], None], name: str) -> None:
        """Waits for what is being written, and starts to write the next.

        Args:
            name: of the thread.

        Raises:
            BaseException: what was written before has failed; nothing is started.
        """
        self.wait()
        # A daemon: a worker that fails must end, whatever storage does.
        self._thread = threading.Thread(target=self._run, args=(write,), name=name, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits until nothing is being written.

        Raises:
            BaseException: what was written has failed.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as err:
            self._error = err
