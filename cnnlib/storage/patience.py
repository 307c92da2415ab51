"""Repeats an operation on storage while an outage lasts, for a stated time.

boto3 repeats a request within about a second. A server that is being restarted, a network that is down, or credentials
that are about to be renewed need longer: `CNNLIB_STORAGE_WAIT_S` seconds per operation, 120 unless it is set. A server
that takes requests and is silent gets less: `CNNLIB_STORAGE_SILENCE_S` seconds without a byte, 60 unless it is set. One
that drips gets as long, and what its bytes need at `CNNLIB_STORAGE_LEAST_KB_S` kB per second, 5 unless it is set.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from cnnlib.errors import ConfigError
from cnnlib.log import log_event

WAIT_VARIABLE = "CNNLIB_STORAGE_WAIT_S"
SILENCE_VARIABLE = "CNNLIB_STORAGE_SILENCE_S"
LEAST_RATE_VARIABLE = "CNNLIB_STORAGE_LEAST_KB_S"
_DEFAULT_WAIT_S, _DEFAULT_SILENCE_S = 120.0, 60.0
# Low, because ten transfers at once may share a slow line.
_DEFAULT_LEAST_KB_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0

ResultT = TypeVar("ResultT")


class Outage(NamedTuple):
    """Why an operation failed, in a few words, if another attempt may help.

    Attributes:
        attempts: how many attempts in a row may fail in this way; None: as many as fit into the time.
    """

    reason: str
    attempts: int | None = None


def storage_wait_s() -> float:
    """Returns for how many seconds an operation is repeated during an outage; 0: not at all.

    Raises:
        ConfigError: the environment variable is not a number of seconds.
    """
    return _read_number(WAIT_VARIABLE, _DEFAULT_WAIT_S)


def storage_silence_s() -> float:
    """Returns for how many seconds, over all attempts, a server may send no byte before an operation ends.

    Raises:
        ConfigError: the environment variable is not a number of seconds.
    """
    return _read_number(SILENCE_VARIABLE, _DEFAULT_SILENCE_S)


def storage_least_bytes_per_s() -> float:
    """Returns the bytes per second, of one request, below which a server is given up; 0: it is not for its rate.

    Raises:
        ConfigError: the environment variable is not a number.
    """
    return 1000 * _read_number(LEAST_RATE_VARIABLE, _DEFAULT_LEAST_KB_S, "kB per second")


def _read_number(variable: str, default: float, unit: str = "seconds") -> float:
    text = os.environ.get(variable, "")
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ConfigError(f"{variable} must be a number of {unit}, at least 0. Received {text!r}.")
    return number


def keep_trying(
    operation: Callable[[], ResultT], find_outage: Callable[[Exception], Outage | None]
) -> ResultT:
    """Returns what an operation returns, after as many attempts as an outage makes necessary.

    The pauses between attempts grow from half a second to ten, and are random, so that many workers do not come back
    at the same moment. The time begins with the first failure, so a long transfer has all of it. No attempt begins
    after the time is over, but the last one may end later.

    Args:
        operation: may run several times.
        find_outage: says why an error is an outage; None for an error that another attempt cannot help.

    Raises:
        Exception: the error of the last attempt.
    """
    wait_s, pause_s = storage_wait_s(), _FIRST_PAUSE_S
    deadline: float | None = None
    limited = 0  # attempts in a row that failed in a way that only a few may
    while True:
        try:
            result = operation()
        except Exception as err:
            outage, now = find_outage(err), time.monotonic()
            deadline = now + wait_s if deadline is None else deadline
            left_s = deadline - now
            if outage is None:
                _outage.end()  # it did answer, if only to refuse
                raise
            limited = 0 if outage.attempts is None else limited + 1
            if left_s <= 0 or (outage.attempts is not None and limited >= outage.attempts):
                _outage.forget()
                raise
            _outage.begin(outage.reason, left_s)
            time.sleep(min(left_s, pause_s * random.uniform(0.5, 1)))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        else:
            _outage.end()
            return result


class _Episode:
    """Logs one line when the first operation of this process begins to wait, and one when storage answers again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    def begin(self, reason: str, left_s: float) -> None:
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                log_event(
                    "storage", note=f"storage does not answer ({reason}); trying for another {left_s:.0f} s"
                )

    def end(self) -> None:
        if self._since is None:  # nearly always, and without the lock
            return
        with self._lock:
            if self._since is not None:
                waited_s, self._since = time.monotonic() - self._since, None
                log_event("storage", note=f"storage answers again after {waited_s:.0f} s")

    def forget(self) -> None:
        with self._lock:
            self._since = None


_outage = _Episode()
