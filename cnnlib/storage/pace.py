"""Gives up a server that drips: one that always sends, or takes, one more byte before a time-out.

A time-out of a socket begins again with every byte. A `Pace` is used up by waiting and refilled by bytes, so a server
that moves fewer bytes per second than the least is given up soon, and a transfer lasts no longer than its size divided
by that rate.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

_SHORTEST_S = 0.001  # a time-out of 0 would mean not to wait at all


class TooSlowError(TimeoutError):
    """A server moved some bytes, and too few of them."""


class RawReader(Protocol):
    """What a socket's `makefile` returns without a buffer."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Reads some bytes into a buffer; returns how many, 0 at the end."""

    def close(self) -> None:
        """Closes it."""


class Pace:
    """The seconds that a connection may still wait for bytes in one direction, in one request."""

    def __init__(self, grace_s: float, bytes_per_s: float) -> None:
        """Takes the most seconds that it may wait in a row, and the bytes that pay for one second; 0: no limit."""
        self._grace_s = grace_s
        self._bytes_per_s = bytes_per_s
        self.begin()

    def begin(self) -> None:
        """Begins another request."""
        self._left_s = self._grace_s
        self._has_moved = False

    def move(self, sock: socket.socket, transfer: Callable[[], int | None]) -> int | None:
        """Calls a function that moves bytes over a socket; returns how many, as the function does.

        Raises:
            TooSlowError: in all the calls since `begin` there were too few bytes for the time.
            TimeoutError: there was none.
        """
        if not self._bytes_per_s:
            return transfer()
        usual_s = sock.gettimeout()
        left_s = max(self._left_s, _SHORTEST_S)
        sock.settimeout(left_s if usual_s is None else min(usual_s, left_s))
        started = time.monotonic()
        try:
            moved = transfer()
        except TimeoutError as err:
            if self._has_moved:
                raise TooSlowError(f"fewer than {self._bytes_per_s:g} bytes a second") from err
            raise
        finally:
            sock.settimeout(usual_s)
        self._has_moved |= bool(moved)
        waited_s = time.monotonic() - started
        # What came fast is no credit for later: at most the grace.
        self._left_s = min(self._grace_s, self._left_s - waited_s + (moved or 0) / self._bytes_per_s)
        if self._left_s <= 0 and moved != 0:
            raise TooSlowError(f"fewer than {self._bytes_per_s:g} bytes a second")
        return moved


class PacedSocket:
    """A connected socket whose bytes are paced in both directions; all else it leaves to the socket itself."""

    def __init__(self, sock: socket.socket, sending: Pace, receiving: Pace) -> None:
        self._sock = sock
        self._sending = sending
        self._receiving = receiving

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        """Sends all bytes of a block."""

        def send() -> int:
            self._sock.sendall(data)
            return len(data)

        self._sending.move(self._sock, send)

    def makefile(self, mode: str = "rb", buffering: int | None = None) -> io.RawIOBase | io.BufferedReader:
        """Returns the bytes that come in as a file, for reading alone; with `buffering=0` without a buffer."""
        assert mode == "rb", mode
        raw = _PacedReader(self._sock.makefile("rb", 0), self._sock, self._receiving)
        return raw if buffering == 0 else io.BufferedReader(raw)


class _PacedReader(io.RawIOBase):
    def __init__(self, raw: RawReader, sock: socket.socket, pace: Pace) -> None:
        super().__init__()
        self._raw, self._sock, self._pace = raw, sock, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int | None:  # type: ignore[override]
        return self._pace.move(self._sock, lambda: self._raw.readinto(buffer))

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
