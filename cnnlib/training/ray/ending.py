"""Ends the workers of a training that are asked to end or to start again, after the chief has saved a resume point.

- SIGTERM or SIGINT asks the driver, which tells the chief: the run ends.
- The controller asks when there is room for more workers: all start again, see elastic.py.
- Ray announces that a machine of a worker will be taken away: all start again, on other machines.

Driver and controller write a key into the store of Ray's head (the GCS), and the chief looks there twice a second. All
have the same job id, so no other job reads the key.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import ray
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_exists,
    _internal_kv_get,
    _internal_kv_put,
)
from ray.train.v2._internal.execution.context import get_train_context

from cnnlib.log import log_event

GRACE_S = 20.0
_POLL_S = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class EndRequest:
    """What the chief is asked: nothing yet, to end the run, or to let all workers start again."""

    def __init__(self, find_taken_machines: Callable[[], int], poll_s: float = _POLL_S) -> None:
        """Starts to look for a request.

        Args:
            find_taken_machines: returns how many machines of workers will soon be taken away.
        """
        self._made = threading.Event()
        self._find_taken_machines = find_taken_machines
        self._poll_s = poll_s
        self.restart = ""
        """Why all workers are to start again; empty: the run is to end, or nothing is asked."""
        threading.Thread(target=self._watch, name="watch-for-end", daemon=True).start()

    def is_made(self) -> bool:
        """Returns whether there is a request."""
        return self._made.is_set()

    def _watch(self) -> None:
        while not self._made.is_set():
            if _internal_kv_exists(_key("end")):
                self._made.set()
            elif taken := self._find_taken_machines():
                self._ask_restart(f"{taken} of the machines will be taken away")
            elif reason := _internal_kv_get(_key("restart")):
                self._ask_restart(reason.decode())
            self._made.wait(self._poll_s)

    def _ask_restart(self, reason: str) -> None:
        self.restart = reason
        self._made.set()


def watch_for_end() -> EndRequest:
    """Lets driver and controller know that this worker, the chief, can save; returns what they ask of it."""
    context = get_train_context().preemption_context
    _internal_kv_del(_key("restart"))  # it was for the workers before
    _internal_kv_put(_key("can-save"), b"")

    def find_taken_machines() -> int:
        info = context.preemption_info
        return len(info.preempted_node_ids) if info else 0

    return EndRequest(find_taken_machines)


def ask_to_restart(reason: str) -> None:
    """Asks the chief, from the controller, to save a resume point and to let all workers start again."""
    if _internal_kv_exists(_key("can-save")):
        _internal_kv_put(_key("restart"), reason.encode())


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
    # What is ignored stays ignored: SIGINT, in a job that a shell has put into the background.
    before = {
        number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) != signal.SIG_IGN
    }

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

    for number in before:
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
