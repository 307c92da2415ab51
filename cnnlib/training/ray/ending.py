"""Ends a training that is asked to end by a signal: the driver tells the chief, which saves a resume point first.

The driver writes a key into the store of Ray's head (the GCS), and the chief looks there twice a second. Driver and
workers have the same job id, so no other job reads the key.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import ray
from ray.experimental.internal_kv import _internal_kv_exists, _internal_kv_put

from cnnlib.log import log_event

GRACE_S = 20.0
_POLL_S = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def watch_for_end() -> Callable[[], bool]:
    """Lets the driver know that this worker, the chief, can save; returns a function that tells whether it should."""
    asked = threading.Event()
    _internal_kv_put(_key("can-save"), b"")

    def watch() -> None:
        while not asked.is_set():
            if _internal_kv_exists(_key("end")):
                asked.set()
            asked.wait(_POLL_S)

    threading.Thread(target=watch, name="watch-for-end", daemon=True).start()
    return asked.is_set


@contextmanager
def ends_with_a_resume_point(grace_s: float = GRACE_S) -> Iterator[None]:
    """Gives the workers time to save a resume point and to return when SIGTERM or SIGINT asks this process to end.

    A second signal, or the end of the time, ends it at once; so does the first while no worker could save anything.
    Only the main thread receives signals: in another one, nothing changes.

    Args:
        grace_s: the most seconds to wait.

    Raises:
        SystemExit, KeyboardInterrupt: what the signal raises without this, once the workers have returned.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    timers: list[threading.Timer] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        if asked or not _ask_to_end(grace_s):
            end_now(number, frame)
        asked.append(number)
        timers.append(threading.Timer(grace_s, os.kill, (os.getpid(), number)))
        timers[0].daemon = True
        timers[0].start()

    def end_now(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        raise SystemExit(number)

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        if asked:
            end_now(asked[0], None)


def _ask_to_end(grace_s: float) -> bool:
    """Asks the chief to end; returns whether there is one that can save."""
    if not ray.is_initialized() or not _internal_kv_exists(_key("can-save")):
        return False
    log_event("run", note=f"asked to end: saving a resume point, for at most {grace_s:g} s")
    _internal_kv_put(_key("end"), b"")
    return True


def _key(name: str) -> bytes:
    return f"cnnlib:{ray.get_runtime_context().get_job_id()}:{name}".encode()
