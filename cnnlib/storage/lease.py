"""Leases: objects by which one of several jobs is known to work on something, as long as it lives.

The owner writes its lease again every few seconds. The clocks of machines differ, so nobody compares times. Whoever
finds a lease watches it: if it changes, its owner is alive; if it does not change for several beats, its owner was
killed. An owner that ends, also with an error, deletes its lease, so only after a kill does the next one wait.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from cnnlib.errors import CnnlibError, InputError
from cnnlib.log import log_event
from cnnlib.storage import files, publish

BEAT_S = 2.0
"""Seconds between two writes of a lease."""
LOOKS_PER_BEAT = 2
"""How often per beat a watch looks, at most."""
_BEATS_UNTIL_FREE = 5
_BEATS_UNTIL_REWRITTEN = 2

LeaseState = Literal["gone", "alive", "unknown", "abandoned"]


class Lease:
    """The lease of one object name, for one owner."""

    def __init__(self, uri: str, *, what: str, beat_s: float = BEAT_S) -> None:
        """Takes the name; writes nothing.

        Args:
            what: the event under which the log mentions the lease.
        """
        self.uri = uri
        self.beat_s = beat_s
        self._what = what
        self._owner = secrets.token_hex(8)

    def create(self) -> bool:
        """Takes the lease if nobody has it; returns whether it did."""
        return files.create_bytes(self.uri, encode_lease(self._owner, 0))

    def take_over(self, seen: Mapping[str, Any]) -> bool:
        """Takes a lease that is gone, damaged, or of an owner that was killed; returns False if another job has it.

        Of several jobs that do so at once, a slow one may delete the new lease of another. Hence a job that has deleted
        a lease first lets an owner that is alive write it again, which it does at its next beat.

        Args:
            seen: what a watch saw of the lease at last.
        """
        if not seen and self.create():
            return True
        if self.holder() == seen:
            files.delete(self.uri)
            time.sleep(_BEATS_UNTIL_REWRITTEN * self.beat_s)
        return self.create()

    def holder(self) -> dict[str, Any]:
        """Returns what the lease states: owner, beat, host, pid; empty if there is none, or none that can be read."""
        try:
            return publish.read_manifest(self.uri)
        except InputError:
            return {}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps a lease that was taken alive inside the context, and deletes it at the end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(self.beat_s)
            self._release()

    def _beat(self, ended: threading.Event) -> None:
        beat = 0
        while not ended.wait(self.beat_s):
            beat += 1
            try:
                if self.holder().get("owner", self._owner) != self._owner:
                    log_event(
                        self._what,
                        note=f"another job took over {self.uri}: it saw no sign of life of this one",
                    )
                    return
                files.write_bytes(self.uri, encode_lease(self._owner, beat))
            except CnnlibError as err:  # the work itself notices if storage stays away
                log_event(self._what, note=f"the lease was not renewed: {err}")

    def _release(self) -> None:
        try:
            if self.holder().get("owner") == self._owner:
                files.delete(self.uri)
        except CnnlibError as err:
            log_event(self._what, note=f"the lease was not deleted: {err}")


class LeaseWatch:
    """Watches the lease of another job, to learn whether it is alive.

    Attributes:
        seen: what the lease stated at the last look; empty if there was none, or none that can be read.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.seen = lease.holder()
        self._looks = 0

    def look(self) -> LeaseState:
        """Returns what is known by now. Call it `LOOKS_PER_BEAT` times in a beat.

        Returns:
            gone: there is no lease, or none that can be read. alive: it has changed. unknown: not yet. abandoned: it
            has not changed for several beats.
        """
        before, self.seen = self.seen, self._lease.holder()
        self._looks += 1
        if not self.seen:
            return "gone"
        if self.seen != before:
            self._looks = 0
            return "alive"
        return "abandoned" if self._looks > _BEATS_UNTIL_FREE * LOOKS_PER_BEAT else "unknown"


def encode_lease(owner: str, beat: int) -> bytes:
    """Returns the bytes of a lease."""
    return publish.canonical_json(
        {"owner": owner, "beat": beat, "host": socket.gethostname(), "pid": os.getpid()}
    )
