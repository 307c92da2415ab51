"""An outage is waited for, renewed credentials are used, and every other error says what helps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import pytest

from cnnlib.errors import AccessError, NotFoundError, StorageError
from cnnlib.storage import files, patience, s3
from cnnlib.storage.patience import WAIT_VARIABLE
from tests.s3_server import Answer, ScriptedServer, error, run_scripted_server

URI = "s3://bucket/object"
OK = Answer(body=b"bytes")
CREATOR = "x-amz-meta-cnnlib-creator"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A scripted server that the environment points to; botocore tries once, and our own pauses are short."""
    monkeypatch.setattr(s3, "_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.002)
    monkeypatch.setenv(WAIT_VARIABLE, "20")
    with run_scripted_server() as server:
        point_to(server, monkeypatch)
        yield server


def point_to(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "first")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_outages_are_waited_for(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in (
        error(500, "InternalError"),
        error(502, "BadGateway"),
        error(503, "SlowDown"),
        error(429, "TooManyRequests"),
        error(400, "RequestTimeout"),
        error(400, "ExpiredToken"),
        error(409, "OperationAborted"),
        Answer(drop=True),
        Answer(body=b"byt", headers={"Content-Length": "5", "Connection": "close"}),
    ):
        server.answers = [answer, answer, answer, OK]
        server.requests.clear()
        assert files.read_bytes(URI) == b"bytes"
        assert len(server.requests) == 4
        begin, end = capsys.readouterr().err.splitlines()
        assert begin.startswith('storage note="storage does not answer (')
        assert "); trying for another " in begin
        assert "storage answers again" in end


def test_a_part_is_the_part_that_was_asked_for_whatever_the_server_makes_of_it(
    server: ScriptedServer,
) -> None:
    server.answers = [Answer(206, b"345", {"Content-Range": "bytes 3-5/10"})]
    assert files.read_range(URI, 3, 3) == b"345"
    server.answers = [Answer(200, b"0123456789")]
    assert files.read_range(URI, 3, 3) == b"345", "it ignores ranges and sends all"
    assert files.read_range(URI, 8, 5) == b"89"
    server.answers = [Answer(206, b"012", {"Content-Range": "bytes 0-2/10"})]
    with pytest.raises(StorageError, match=r"Received bytes 0-2/10, expected bytes=3-5"):
        files.read_range(URI, 3, 3)


def test_every_operation_survives_an_outage(server: ScriptedServer, tmp_path: Path) -> None:
    listing = Answer(
        body=b"<ListBucketResult><Contents><Key>o/a</Key><Size>1</Size></Contents></ListBucketResult>"
    )
    (tmp_path / "file").write_bytes(b"bytes")
    for operate, answers in (
        (files.read_bytes, [OK]),
        (files.find_size, [OK]),
        (files.list_objects, [listing]),
        (files.list_folders, [listing]),
        (files.delete, [Answer(204)]),
        (lambda uri: files.write_bytes(uri, b"x"), [Answer()]),
        (lambda uri: files.create_bytes(uri, b"x"), [Answer()]),
        (lambda uri: files.upload(tmp_path / "file", uri), [Answer()]),
        (lambda uri: files.download(uri, tmp_path / "copy"), [OK, OK]),
    ):
        server.answers = [error(503, "SlowDown"), *answers]
        operate("s3://bucket/o")
    assert (tmp_path / "copy").read_bytes() == b"bytes"


def test_closed_port_is_waited_for_until_it_opens(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_scripted_server() as closed:
        port = int(closed.server_address[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed.url)
    later: list[Any] = []

    def open_port() -> None:
        context = run_scripted_server(port)
        later.append(context)
        context.__enter__().answers = [OK]

    timer = Timer(0.1, open_port)
    timer.start()
    try:
        assert files.read_bytes(URI) == b"bytes"
    finally:
        timer.join()
        later[0].__exit__(None, None, None)


def test_outage_that_does_not_end_names_the_time_and_its_variable(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(patience, "time", clock)
    server.answers = [error(503, "SlowDown", "Reduce your request rate")]
    with pytest.raises(StorageError) as raised:
        files.read_bytes(URI)
    assert sum(slept) == pytest.approx(20)
    assert len(server.requests) == len(slept) + 1
    assert str(raised.value) == (
        f"{server.url} failed at GetObject on {URI} for 20 s (CNNLIB_STORAGE_WAIT_S): SlowDown Reduce your request "
        "rate. Check the storage server's health and its log, and that AWS_ENDPOINT_URL is its S3 port."
    )


def test_refusal_is_not_waited_for(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in (error(403, "AccessDenied"), error(400, "InvalidArgument"), error(404, "NoSuchKey")):
        server.answers = [answer]
        with pytest.raises((AccessError, NotFoundError, StorageError)):
            files.read_bytes(URI)
    assert len(server.requests) == 4  # AccessDenied twice: the credentials might have been renewed
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("refusal", [error(403, "InvalidAccessKeyId"), error(400, "ExpiredToken")])
def test_renewed_credentials_are_used_without_a_restart(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, refusal: Answer
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    shared = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = secret\n"
    shared.write_text(text.format("first"))
    server.answers = [OK]
    files.read_bytes(URI)
    shared.write_text(text.format("second"))
    server.answers = [refusal, OK]
    assert files.find_size(URI) == 5
    used = [
        request.headers["Authorization"].split("Credential=")[1].split("/")[0] for request in server.requests
    ]
    assert (used[0], used[1], used[-1]) == ("first", "first", "second")


def test_expired_credentials_are_waited_for_also_where_the_answer_has_no_body_to_say_so(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expired = error(400, "ExpiredToken")
    for ask, expected in (
        (lambda: files.find_size(URI), 5),
        (lambda: files.download(URI, tmp_path / "file"), None),
    ):
        server.answers = [expired] * 7 + [OK]
        server.requests.clear()
        assert ask() == expected
        asked = [request.method for request in server.requests]
        assert (asked[0], asked.count("GET") > 0) == ("HEAD", True)
        begin, end = capsys.readouterr().err.splitlines()
        assert "storage does not answer (ExpiredToken: the credentials have expired)" in begin
        assert "storage answers again" in end
    assert (tmp_path / "file").read_bytes() == b"bytes"


def test_refusal_without_a_body_is_explained_by_the_reason_of_another_request(server: ScriptedServer) -> None:
    server.answers = [error(403, "RequestTimeTooSkewed", "The difference is too large")]
    with pytest.raises(AccessError, match="Expected a clock that agrees with the server's"):
        files.find_size(URI)
    server.answers = [error(403, "AccessDenied", "No policy allows it")]
    server.requests.clear()
    with pytest.raises(AccessError, match="AccessDenied No policy allows it"):
        files.find_size(URI)
    assert [request.method for request in server.requests] == ["HEAD", "HEAD", "GET"]


def test_permission_that_comes_meanwhile_is_used(server: ScriptedServer) -> None:
    refused = error(403, "AccessDenied")
    server.answers = [refused, refused, Answer(206, b"b", {"Content-Range": "bytes 0-0/5"}), OK]
    assert files.find_size(URI) == 5


def test_created_object_is_ours_although_the_answer_was_lost(server: ScriptedServer) -> None:
    lost, exists = Answer(drop=True), error(412, "PreconditionFailed")
    server.answers = [lost, exists, lambda: Answer(headers={CREATOR: server.requests[0].headers[CREATOR]})]
    assert files.create_bytes(URI, b"ours") is True
    assert [request.method for request in server.requests] == ["PUT", "PUT", "HEAD"]


def test_object_of_another_writer_is_not_ours(server: ScriptedServer) -> None:
    for status in (412, 409, 304):
        server.answers = [Answer(status), Answer(headers={CREATOR: "somebody else"})]
        assert files.create_bytes(URI, b"ours") is False


def test_store_that_answers_304_without_an_object_is_explained(server: ScriptedServer) -> None:
    server.answers = [Answer(304), Answer(404)] * 5
    with pytest.raises(
        StorageError, match=r"cannot be created if absent: .* answered with 304, as if it existed"
    ):
        files.create_bytes(URI, b"x")


def test_store_that_refuses_checksums_gets_the_setting_that_helps(server: ScriptedServer) -> None:
    for answer in (
        error(400, "XAmzContentSHA256Mismatch"),
        error(
            400, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, or a valid sha256 value."
        ),
        error(400, "InvalidRequest", "The x-amz-sdk-checksum-algorithm header is not supported"),
        error(411, "MissingContentLength"),
        error(501, "NotImplemented", "Transfer-Encoding: aws-chunked is not implemented"),
    ):
        server.answers = [answer]
        server.requests.clear()
        with pytest.raises(
            StorageError, match="Set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, on every"
        ):
            files.write_bytes(URI, b"x")
        assert len(server.requests) == (3 if b"SHA256Mismatch" in answer.body else 1)


def test_store_without_put_if_absent_is_told_so(server: ScriptedServer) -> None:
    server.answers = [
        error(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
    ]
    with pytest.raises(
        StorageError, match=r"Expected a store with put-if-absent \(If-None-Match: \*\), as AWS S3"
    ):
        files.check_writable("s3://bucket/folder")
    assert len(server.requests) == 1


def test_wrong_checksum_in_an_answer_is_explained(server: ScriptedServer) -> None:
    server.answers = [Answer(body=b"bytes", headers={"x-amz-checksum-crc32": "AAAAAA=="})]
    with pytest.raises(StorageError, match="AWS_RESPONSE_CHECKSUM_VALIDATION=when_required"):
        files.read_bytes(URI)
