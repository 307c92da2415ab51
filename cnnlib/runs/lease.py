"""Lets one training at a time work on a run: `RUNS/NAME/lease.json`, which its owner writes again every few seconds.

The clocks of machines differ, so nobody compares times. Whoever finds a lease watches it: if it changes, its owner is
alive, and the run is taken; if it does not change for several beats, its owner was killed, and the run is free. An
owner that ends, also with an error, deletes its lease, so only after a kill does the next training wait.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cnnlib.errors import CnnlibError, ConflictError, InputError
from cnnlib.log import log_event
from cnnlib.storage import files, layout, publish

BEAT_S = 2.0
_BEATS_UNTIL_FREE = 5
_POLLS_PER_BEAT = 2


@contextmanager
def hold_lease(run: str, *, beat_s: float = BEAT_S) -> Iterator[None]:
    """Holds the lease of a run inside the context.

    Args:
        run: the run.
        beat_s: seconds between two writes of the lease.

    Raises:
        ConflictError: another training holds it, and is alive.
    """
    owner = secrets.token_hex(8)
    _acquire(run, owner, beat_s)
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(run, owner, beat_s, ended), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(beat_s)
        _release(run, owner)


def _acquire(run: str, owner: str, beat_s: float) -> None:
    uri = layout.run_lease(run)
    if not files.create_bytes(uri, _encode(owner, 0)):
        _wait_until_free(run, beat_s)
        files.delete(uri)
        if not files.create_bytes(uri, _encode(owner, 0)):
            raise _taken(run, _read(run))
        time.sleep(beat_s / _POLLS_PER_BEAT)  # another one that waited may have deleted it once more
        found = _read(run)
        if found.get("owner") != owner:
            raise _taken(run, found)


def _wait_until_free(run: str, beat_s: float) -> None:
    """Returns once a lease is gone, or has not changed for several beats."""
    first = _read(run)
    if first:
        seconds = _BEATS_UNTIL_FREE * beat_s
        log_event("run", note=f"another training of it did not end; looking for {seconds:g} s if it is alive")
    for _ in range(_BEATS_UNTIL_FREE * _POLLS_PER_BEAT):
        found = _read(run)
        if not found:
            return
        if found != first:
            raise _taken(run, found)
        time.sleep(beat_s / _POLLS_PER_BEAT)


def _taken(run: str, lease: dict[str, Any]) -> ConflictError:
    return ConflictError(
        f"The run {run} is being trained by another job ({lease.get('host', 'host unknown')}, process "
        f"{lease.get('pid', 'unknown')}). Wait until it ends, or choose another --name."
    )


def _beat(run: str, owner: str, beat_s: float, ended: threading.Event) -> None:
    beat = 0
    while not ended.wait(beat_s):
        beat += 1
        try:
            if _read(run).get("owner", owner) != owner:
                log_event(
                    "run", note="another training took this run over: it saw no sign of life of this one"
                )
                return
            files.write_bytes(layout.run_lease(run), _encode(owner, beat))
        except CnnlibError as err:  # the training itself notices if storage stays away
            log_event("run", note=f"the lease was not renewed: {err}")


def _release(run: str, owner: str) -> None:
    try:
        if _read(run).get("owner") == owner:
            files.delete(layout.run_lease(run))
    except CnnlibError as err:
        log_event("run", note=f"the lease was not deleted: {err}")


def _read(run: str) -> dict[str, Any]:
    """Reads the lease; empty if there is none, or none that can be read."""
    try:
        return publish.read_manifest(layout.run_lease(run))
    except InputError:
        return {}


def _encode(owner: str, beat: int) -> bytes:
    lease = {"owner": owner, "beat": beat, "host": socket.gethostname(), "pid": os.getpid()}
    return publish.canonical_json(lease)
