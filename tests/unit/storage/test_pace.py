"""A connection is given up that moves too few bytes for the time, in either direction, in the clear and over TLS."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cnnlib.errors import ConfigError, StorageError
from cnnlib.storage import files, pace, patience
from cnnlib.storage.pace import Pace, PacedSocket, TooSlowError
from cnnlib.storage.patience import LEAST_RATE_VARIABLE, SILENCE_VARIABLE, storage_least_bytes_per_s

GRACE_S, RATE = 10.0, 1000.0


class Line:
    """A socket and its clock: every transfer takes a time and moves bytes, or is silent until the time-out."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timeout: float | None = GRACE_S

    def monotonic(self) -> float:
        return self.now

    def gettimeout(self) -> float | None:
        return self.timeout

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds

    def move(self, pace: Pace, seconds: float, num_bytes: int) -> None:
        def transfer() -> int:
            assert self.timeout is not None
            self.now += min(seconds, self.timeout)
            if seconds > self.timeout:
                raise TimeoutError
            return num_bytes

        pace.move(self, transfer)  # type: ignore[arg-type]
        assert self.timeout == GRACE_S, "the socket has its own time-out again"

    def drip(self, pace: Pace) -> None:
        for _ in range(1000):
            self.move(pace, 2.0, 1)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    monkeypatch.setattr(pace, "time", line)
    return line


def test_drops_are_given_up_after_the_grace(line: Line) -> None:
    with pytest.raises(TooSlowError, match="fewer than 1000 bytes a second"):
        line.drip(Pace(GRACE_S, RATE))
    assert line.now == pytest.approx(GRACE_S, abs=0.1)


def test_what_came_fast_before_is_no_credit(line: Line) -> None:
    pace = Pace(GRACE_S, RATE)
    line.move(pace, 1.0, 10**9)
    with pytest.raises(TooSlowError):
        line.drip(pace)
    assert line.now == pytest.approx(1.0 + GRACE_S, abs=0.1)


def test_transfer_above_the_least_rate_may_last(line: Line) -> None:
    steady = Pace(GRACE_S, RATE)
    for _ in range(1000):
        line.move(steady, 2.0, 2001)
    assert line.now == 2000.0


def test_each_request_begins_anew(line: Line) -> None:
    drip = Pace(GRACE_S, RATE)
    for _ in range(10):
        drip.begin()
        line.move(drip, 8.0, 1)


def test_server_that_never_moved_a_byte_is_silent_and_not_slow(line: Line) -> None:
    with pytest.raises(TimeoutError) as raised:
        line.move(Pace(GRACE_S, RATE), 30.0, 1)
    assert not isinstance(raised.value, TooSlowError)
    began = Pace(GRACE_S, RATE)
    line.timeout = GRACE_S
    line.move(began, 4.0, 1)
    with pytest.raises(TooSlowError):
        line.move(began, 30.0, 1)
    assert line.now == pytest.approx(GRACE_S + GRACE_S, abs=0.1)


def test_no_least_rate_leaves_the_socket_alone(line: Line) -> None:
    unlimited = Pace(GRACE_S, 0.0)
    for _ in range(100):
        line.move(unlimited, 5.0, 1)


def test_answer_that_is_short_and_complete_is_no_fault(line: Line) -> None:
    short = Pace(GRACE_S, RATE)
    line.move(short, 9.9, 1)
    line.move(short, 0.1, 0)  # its end
    line.move(short, 0.0, 0)  # and once more


@contextmanager
def paced_pair(grace_s: float) -> Iterator[tuple[PacedSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5.0)
        yield PacedSocket(ours, Pace(grace_s, RATE), Pace(grace_s, RATE)), theirs


def drip(send: Callable[[bytes], Any], ended: Event) -> None:
    while not ended.wait(0.05):
        send(b"x")


@contextmanager
def dripping(send: Callable[[bytes], Any]) -> Iterator[None]:
    ended = Event()
    thread = Thread(target=drip, args=(send, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("buffering", [None, 0])
def test_real_socket_that_drips_is_given_up(buffering: int | None) -> None:
    started = time.monotonic()
    with (
        paced_pair(0.3) as (ours, theirs),
        dripping(theirs.send),
        ours.makefile("rb", buffering) as file,
        pytest.raises(TooSlowError),
    ):
        list(iter(lambda: file.read(100_000), b""))
    assert 0.25 < time.monotonic() - started < 4.0, "its time-out is 5 s"


def test_real_socket_is_otherwise_as_it_was() -> None:
    with paced_pair(5.0) as (ours, theirs):
        ours.sendall(b"ping")
        assert theirs.recv(10) == b"ping"
        theirs.sendall(b"one\ntwo\n")
        theirs.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as file:
            assert file.readline() == b"one\n"
            assert file.read() == b"two\n"
        assert ours.gettimeout() == 5.0
        assert ours.fileno() >= 0


def certificate(folder: Path) -> Path:
    """Writes a key and a certificate for localhost that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (path := folder / "localhost.pem").write_bytes(
        key.private_bytes(pem, private, serialization.NoEncryption()) + signed.public_bytes(pem)
    )
    return path


@contextmanager
def tls_server(path: Path, serve: Callable[[ssl.SSLSocket], None]) -> Iterator[SimpleNamespace]:
    """Runs a server that calls a function with each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    found = SimpleNamespace(connections=0)

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            found.connections += 1
            with context.wrap_socket(plain, server_side=True) as secure:
                try:
                    serve(secure)
                except OSError:
                    continue

    with socket.create_server(("localhost", 0)) as listener:
        found.url = f"https://localhost:{listener.getsockname()[1]}"
        thread = Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(0.1)  # it may still wait for a request


def point_to(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT_URL": url, "AWS_CA_BUNDLE": str(path), SILENCE_VARIABLE: "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.01)


def read_request(connection: ssl.SSLSocket) -> bytes:
    asked = b""
    while not asked.endswith(b"\r\n\r\n") and (more := connection.recv(4096)):
        asked += more
    return asked


def test_answers_over_tls_come_over_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(connection: ssl.SSLSocket) -> None:
        while read_request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes")

    path = certificate(tmp_path)
    with tls_server(path, serve) as server:
        point_to(server.url, path, monkeypatch)
        assert [files.read_bytes("s3://bucket/object") for _ in range(3)] == [b"bytes"] * 3
        assert server.connections == 1


def test_server_that_drips_over_tls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(connection: ssl.SSLSocket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
        drip(connection.sendall, Event())

    path = certificate(tmp_path)
    started = time.monotonic()
    with tls_server(path, serve) as server:
        point_to(server.url, path, monkeypatch)
        with pytest.raises(StorageError, match="is too slow about s3://bucket/object"):
            files.read_bytes("s3://bucket/object")
        assert server.connections == 3
    assert time.monotonic() - started < 15


def test_least_rate_is_a_number_of_kb(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage_least_bytes_per_s() == 5000.0
    monkeypatch.setenv(LEAST_RATE_VARIABLE, "0.5")
    assert storage_least_bytes_per_s() == 500.0
    monkeypatch.setenv(LEAST_RATE_VARIABLE, "slow")
    with pytest.raises(ConfigError, match=r"must be a number of kB per second, at least 0\. Received 'slow'"):
        storage_least_bytes_per_s()
