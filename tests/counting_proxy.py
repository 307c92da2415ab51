"""Forwards connections to an S3 server, and counts which objects were read through it."""

from __future__ import annotations

import collections
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_GET = re.compile(rb"GET /([^ ?]+)[^ ]* HTTP/1.1\r\n")


class CountingProxy:
    """Forwards what clients send to a server. The port is its own, so clients sign their requests for it."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sent: list[bytearray] = []  # by clients, one for each connection
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def reads(self, suffix: str) -> dict[str, int]:
        """Returns how often each object whose key ends so was read, by its key."""
        found = [match.decode() for sent in list(self._sent) for match in _GET.findall(bytes(sent))]
        return dict(collections.Counter(key.partition("/")[2] for key in found if key.endswith(suffix)))

    def run(self) -> None:
        """Forwards until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sent.append(bytearray())
                for source, target, log in ((client, server, self._sent[-1]), (server, client, None)):
                    threading.Thread(target=_forward, args=(source, target, log), daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()


@contextmanager
def run_counting_proxy(endpoint_url: str) -> Iterator[CountingProxy]:
    """Runs a proxy in front of a server at `http://host:port` as long as the context lasts."""
    host, _, port = endpoint_url.removeprefix("http://").partition(":")
    proxy = CountingProxy((host, int(port)))
    threading.Thread(target=proxy.run, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()


def _forward(source: socket.socket, target: socket.socket, log: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if log is not None:
                log += data
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
