"""An S3 server whose answers a test writes down: for what no real server does when it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Answer:
    """One answer of the server; `drop` closes the connection without it, after the request has arrived."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False


@dataclass
class Request:
    """One request that arrived."""

    method: str
    path: str
    headers: Mapping[str, str]


class ScriptedServer(ThreadingHTTPServer):
    """Gives the answers in their order, the last one for ever. A function is called for its answer."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answers: list[Answer | Callable[[], Answer]] = []
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        """The endpoint for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def run_scripted_server(port: int = 0) -> Iterator[ScriptedServer]:
    """Runs a server for as long as the context lasts."""
    with ScriptedServer(port) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def error(status: int, code: str, message: str = "") -> Answer:
    """Returns an answer as S3 sends an error."""
    return Answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(Request(self.command, self.path, dict(self.headers)))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not isinstance(answer, Answer):
            answer = answer()
        if answer.drop:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _answer  # noqa: N815 - the names of http.server

    def log_message(self, *_: object) -> None:
        """Says nothing."""
