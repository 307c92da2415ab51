"""Ends a search of Ray Tune after some time, so that it can go on later. The only file that signals Ray Tune.

Ray's own time budget marks the trials that it stops, and the search, as done: the same search could never go on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ASK_AGAIN_S = 0.2


@contextmanager
def end_after(seconds: float | None) -> Iterator[None]:
    """Lets the search that runs inside save its state and return after some seconds; None: it runs to its end.

    Ray Tune does so on SIGUSR1, for which `ray.tune.run` installs a handler. Called from the main thread.
    """
    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGUSR1, _ignore)  # the usual action would end this process
    ended = threading.Event()
    timer = threading.Thread(target=_signal_search, args=(seconds, ended), daemon=True)
    timer.start()
    try:
        yield
    finally:
        ended.set()
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def _signal_search(seconds: float, ended: threading.Event) -> None:
    wait_s = seconds
    while not ended.wait(wait_s):
        if signal.getsignal(signal.SIGUSR1) is not _ignore:  # Ray Tune has started to listen
            os.kill(os.getpid(), signal.SIGUSR1)
            return
        wait_s = _ASK_AGAIN_S


def _ignore(number: int, frame: object) -> None:
    """Does nothing."""
