"""Stands between a client and a real S3 server, and spoils requests or answers as a test tells it to."""

from __future__ import annotations

import http.client
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Literal

from tests.s3_server import Answer, Request

FOR_EVER = 10**9
_HOP_BY_HOP = frozenset({"connection", "content-length", "transfer-encoding", "expect", "keep-alive"})
_STUTTERS = 8  # pieces of a slow answer


@dataclass
class Fault:
    """What goes wrong, and with which requests.

    Attributes:
        kind: `answer` gives `answer` in the server's place; `lose` lets the server act, and then closes the connection;
            `hang` takes the connection and never reads on; `stall` sends half an answer and no more; `reset` breaks the
            connection after half of it; `truncate` closes it there; `flip` changes one byte in the middle of an answer;
            `flip-sent` one of a request; `slow` sends the answer in pieces, with pauses; `drip` sends an answer, and
            `drip-head` its head, byte by byte for ever, and `sip` reads a request so, with pauses before each byte.
        times: of so many requests.
        method: of requests with this method; "" for all.
        name_end: of requests for keys that end so.
        pause_s: of a slow answer, in all; before each byte of one that drips.
    """

    kind: Literal[
        "answer",
        "lose",
        "hang",
        "stall",
        "reset",
        "truncate",
        "flip",
        "flip-sent",
        "slow",
        "drip",
        "drip-head",
        "sip",
    ]
    times: int = FOR_EVER
    method: str = ""
    name_end: str = ""
    answer: Answer | None = None
    pause_s: float = 0.0


class FaultProxy(ThreadingHTTPServer):
    """Forwards requests to a server, except those that a fault meets."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = server
        self.faults: list[Fault] = []
        self.requests: list[Request] = []  # all that arrived
        self.met = 0  # requests that a fault met
        self.ended = Event()
        self._lock = Lock()

    @property
    def url(self) -> str:
        """The endpoint for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take_fault(self, request: Request) -> Fault | None:
        """Notes a request, and returns the fault that it meets."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                key = request.path.partition("?")[0]
                if fault.times > 0 and fault.method in ("", request.method) and key.endswith(fault.name_end):
                    fault.times -= 1
                    self.met += 1
                    return fault
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients that give up are what is tested."""


@contextmanager
def run_fault_proxy(endpoint_url: str) -> Iterator[FaultProxy]:
    """Runs a proxy in front of a server at `http://host:port` as long as the context lasts."""
    with FaultProxy(endpoint_url.removeprefix("http://")) as proxy:
        thread = Thread(target=proxy.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def handle_expect_100(self) -> bool:
        """Leaves the answer to `_serve`: a server that hangs does not ask for the body, either."""
        return True

    def _serve(self) -> None:
        fault = self.server.take_fault(Request(self.command, self.path, dict(self.headers)))
        kind = fault.kind if fault else ""
        if kind == "hang":
            self.server.ended.wait()
            self.close_connection = True
            return
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(http.HTTPStatus.CONTINUE)
            self.end_headers()
        if kind == "sip" and fault:
            self._sip(fault.pause_s)
            return
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault and fault.answer:
            self._send(fault.answer, fault.answer.body)
            return
        answer = self._forward(_flip(sent) if kind == "flip-sent" else sent)
        half = answer.body[: len(answer.body) // 2]
        if kind == "lose":
            self.close_connection = True
        elif kind in ("stall", "reset", "truncate"):
            self._send(answer, half)
            self._break_off(kind)
        elif kind in ("drip", "drip-head"):
            assert fault is not None
            self._send(answer, b"") if kind == "drip" else self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            self._drip(answer.body if kind == "drip" else bytes(10**6), fault.pause_s)
        elif kind == "slow":
            assert fault is not None
            time.sleep(fault.pause_s / 2)
            self._send(answer, b"")
            self._stutter(answer.body, fault.pause_s / 2)
        else:
            self._send(answer, _flip(answer.body) if kind == "flip" else answer.body)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _serve  # noqa: N815 - the names of http.server

    def _forward(self, sent: bytes) -> Answer:
        connection = http.client.HTTPConnection(self.server.target)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(sent)))
        connection.endheaders(sent)
        response = connection.getresponse()
        body = response.read()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
        length = response.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        connection.close()
        return Answer(response.status, body, {**headers, "Content-Length": length or "0"})

    def _send(self, answer: Answer, body: bytes) -> None:
        self.send_response_only(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stutter(self, body: bytes, pause_s: float) -> None:
        size = max(1, -(-len(body) // _STUTTERS))
        for first in range(0, len(body) if self.command != "HEAD" else 0, size):
            time.sleep(pause_s / _STUTTERS)
            self.wfile.write(body[first : first + size])

    def _drip(self, data: bytes, pause_s: float) -> None:
        for first in range(len(data)):
            if self.server.ended.wait(pause_s):
                break
            self.wfile.write(data[first : first + 1])
        self.close_connection = True

    def _sip(self, pause_s: float) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while not self.server.ended.wait(pause_s) and self.connection.recv(1000):
            pass

    def _break_off(self, kind: str) -> None:
        self.close_connection = True
        if kind == "stall":
            self.server.ended.wait()
        if kind == "reset":
            # With no time to linger, closing sends RST, not FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):
                self.rfile.close()
                self.connection.close()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data
