"""Every operation on a real S3 server survives what a network and a server do to it, or ends in a clear error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cnnlib.errors import AccessError, CnnlibError, StorageError
from cnnlib.storage import files, patience, publish, s3
from cnnlib.storage.patience import LEAST_RATE_VARIABLE, SILENCE_VARIABLE, WAIT_VARIABLE
from cnnlib.storage.uri import join_uri
from infra.local_s3 import LocalS3Server
from tests.fault_proxy import Fault, FaultProxy, run_fault_proxy
from tests.s3_server import Answer, error

_DATA = bytes(range(256)) * 400
_MANIFEST = {"step": 7, "classes": ["Ärmel", "Bag"]}
Operation = Callable[[str, Path], None]


@pytest.fixture
def proxy(
    s3_uri: str, s3_server: LocalS3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FaultProxy]:
    """A proxy that the environment points to, in front of a server with one object; all times are short."""
    monkeypatch.setattr(s3, "_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.01)
    files.write_bytes(join_uri(s3_uri, "stored"), _DATA)  # the first write to a server takes a while
    s3._client.cache_clear()
    monkeypatch.setenv(WAIT_VARIABLE, "20")
    monkeypatch.setenv(SILENCE_VARIABLE, "2")
    (tmp_path / "model").write_bytes(_DATA)
    with run_fault_proxy(s3_server.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy
        s3._client.cache_clear()


def read_shard(uri: str, _: Path) -> None:
    assert publish.read_checked(join_uri(uri, "stored"), publish.sha256_hex(_DATA)) == _DATA


def read_part(uri: str, _: Path) -> None:
    assert files.read_range(join_uri(uri, "stored"), 1000, 5000) == _DATA[1000:6000]


def download_model(uri: str, folder: Path) -> None:
    publish.download_checked(join_uri(uri, "stored"), folder / "copy", publish.sha256_hex(_DATA))
    assert (folder / "copy").read_bytes() == _DATA


def list_folder(uri: str, _: Path) -> None:
    assert [(found.uri, found.num_bytes) for found in files.list_objects(uri)] == [
        (join_uri(uri, "stored"), len(_DATA))
    ]


def write_shard(uri: str, _: Path) -> None:
    files.write_bytes(join_uri(uri, "written"), _DATA)
    assert files.read_bytes(join_uri(uri, "written")) == _DATA


def create_once(uri: str, _: Path) -> None:
    assert files.create_bytes(join_uri(uri, "created"), b"ours") is True
    assert files.read_bytes(join_uri(uri, "created")) == b"ours"
    assert files.create_bytes(join_uri(uri, "created"), b"late") is False


def publish_checkpoint(uri: str, folder: Path) -> None:
    folder_uri = join_uri(uri, "epoch-0001")
    assert publish.publish_files(folder_uri, {"model.keras": folder / "model"}, _MANIFEST) is True
    assert publish.read_manifest(join_uri(folder_uri, "manifest.json")) == _MANIFEST
    assert files.read_bytes(join_uri(folder_uri, "model.keras")) == _DATA


READS: tuple[Operation, ...] = (read_shard, read_part, download_model, list_folder)
WRITES: tuple[Operation, ...] = (write_shard, create_once, publish_checkpoint)


@pytest.mark.parametrize("operate", READS + WRITES)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("answer", 3, answer=error(500, "InternalError")),
        Fault("answer", 3, answer=error(503, "SlowDown")),
        Fault("answer", 2, answer=error(400, "ExpiredToken")),
        Fault("lose", 1),
        Fault("hang", 1),
        Fault("slow", 1, pause_s=0.6),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.answer.status if fault.answer else ''}",
)
def test_fault_that_passes_is_survived(
    proxy: FaultProxy, s3_uri: str, tmp_path: Path, fault: Fault, operate: Operation
) -> None:
    _meet(proxy, fault, operate, s3_uri, tmp_path)


@pytest.mark.parametrize("operate", READS)
@pytest.mark.parametrize("kind", ["stall", "reset", "truncate"])
def test_answer_that_breaks_off_is_read_again(
    proxy: FaultProxy, s3_uri: str, tmp_path: Path, kind: str, operate: Operation
) -> None:
    _meet(proxy, Fault(kind, 2, "GET"), operate, s3_uri, tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("operate", [read_shard, write_shard, create_once, publish_checkpoint])
def test_byte_that_changed_on_the_way_is_noticed_and_the_request_repeated(
    proxy: FaultProxy, s3_uri: str, tmp_path: Path, operate: Operation
) -> None:
    fault = Fault("flip", 1, "GET") if operate is read_shard else Fault("flip-sent", 2, "PUT")
    _meet(proxy, fault, operate, s3_uri, tmp_path)


def test_manifest_that_comes_with_a_wrong_byte_is_read_again(proxy: FaultProxy, s3_uri: str) -> None:
    uri = join_uri(s3_uri, "manifest.json")
    publish.write_manifest(uri, _MANIFEST)
    proxy.faults = [Fault("flip", 1, "GET", "manifest.json")]
    assert publish.read_manifest(uri) == _MANIFEST
    assert proxy.met == 1


@pytest.mark.parametrize("operate", READS + WRITES)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("hang"), rf"No answer from .* for up to 1 s \({SILENCE_VARIABLE}\)"),
        (Fault("answer", answer=error(503, "SlowDown")), rf"for 1 s \({WAIT_VARIABLE}\)|503"),
        (Fault("answer", answer=error(403, "RequestTimeTooSkewed")), r"clock|refuses HeadObject"),
    ],
    ids=["hang", "503", "clock"],
)
def test_fault_that_stays_ends_in_a_clear_error(
    proxy: FaultProxy,
    s3_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    message: str,
    operate: Operation,
) -> None:
    monkeypatch.setenv(WAIT_VARIABLE, "1")
    monkeypatch.setenv(SILENCE_VARIABLE, "1")
    s3._client.cache_clear()
    proxy.faults = [fault]
    with pytest.raises(CnnlibError, match=message):
        operate(s3_uri, tmp_path)


@pytest.mark.parametrize("operate", WRITES)
@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (error(403, "AccessDenied"), AccessError, "Expected credentials that permit it"),
        (error(400, "BadDigest"), StorageError, "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
        (error(501, "NotImplemented"), StorageError, "Expected a store with put-if-absent"),
    ],
    ids=["read-only", "checksum", "501"],
)
def test_refused_write_says_what_helps(
    proxy: FaultProxy,
    s3_uri: str,
    tmp_path: Path,
    answer: Answer,
    kind: type[CnnlibError],
    message: str,
    operate: Operation,
) -> None:
    proxy.faults = [Fault("answer", method="PUT", answer=answer)]
    with pytest.raises(kind, match=message):
        operate(s3_uri, tmp_path)


def test_304_to_a_conditional_put_without_an_object_is_a_clear_error(proxy: FaultProxy, s3_uri: str) -> None:
    proxy.faults = [Fault("answer", method="PUT", answer=Answer(304))]
    with pytest.raises(StorageError, match="cannot be created if absent"):
        files.create_bytes(join_uri(s3_uri, "created"), b"x")


def test_server_that_does_not_read_on_is_noticed_while_a_shard_is_sent(
    proxy: FaultProxy, s3_uri: str
) -> None:
    proxy.faults = [Fault("hang", method="PUT")]
    with pytest.raises(StorageError, match=SILENCE_VARIABLE):
        files.write_bytes(join_uri(s3_uri, "large"), bytes(16 * 2**20))
    assert proxy.met == 3


@pytest.mark.parametrize(
    ("kind", "operate"),
    [
        ("drip", read_shard),
        ("drip", download_model),
        ("drip", list_folder),
        ("drip-head", read_part),
        ("drip-head", write_shard),
        ("drip-head", create_once),
    ],
)
def test_server_that_drips_is_given_up_and_asked_again(
    proxy: FaultProxy, s3_uri: str, tmp_path: Path, kind: str, operate: Operation
) -> None:
    # Byte by byte, each long before a time-out: nothing but its pace ends it.
    fault = Fault(kind, 1, "GET" if operate in READS else "PUT", pause_s=0.1)  # type: ignore[arg-type]
    _meet(proxy, fault, operate, s3_uri, tmp_path)


@pytest.mark.parametrize("operate", [read_shard, download_model, list_folder])
def test_server_that_drips_for_ever_ends_in_a_clear_error(
    proxy: FaultProxy, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operate: Operation
) -> None:
    monkeypatch.setenv(SILENCE_VARIABLE, "4")  # so that a busy machine is not taken for a silent server
    s3._client.cache_clear()
    proxy.faults = [Fault("drip", method="GET", pause_s=0.1)]
    started = time.monotonic()
    with pytest.raises(
        StorageError, match=rf"is too slow about .* 5 kB a second \({LEAST_RATE_VARIABLE}\) for up to 4 s"
    ):
        operate(s3_uri, tmp_path)
    assert time.monotonic() - started < 20
    assert proxy.met == 3


def test_server_that_sips_is_noticed_while_a_shard_is_sent(proxy: FaultProxy, s3_uri: str) -> None:
    proxy.faults = [Fault("sip", method="PUT", pause_s=0.2)]
    with pytest.raises(StorageError, match="is too slow about"):
        files.write_bytes(join_uri(s3_uri, "large"), bytes(16 * 2**20))
    assert proxy.met == 3


def test_slow_line_is_no_fault(proxy: FaultProxy, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SILENCE_VARIABLE, "10")  # 3 s for each attempt
    s3._client.cache_clear()
    proxy.faults = [Fault("slow", 1, "GET", pause_s=4.0)]
    assert files.read_bytes(join_uri(s3_uri, "stored")) == _DATA
    assert len(proxy.requests) == 1, "it was read in one go"


def test_no_rate_is_too_low_if_none_is_asked_for(
    proxy: FaultProxy, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SILENCE_VARIABLE, "4")  # 1.2 s for each attempt
    monkeypatch.setenv(LEAST_RATE_VARIABLE, "0")
    s3._client.cache_clear()
    files.write_bytes(join_uri(s3_uri, "few"), bytes(30))
    proxy.faults = [Fault("drip", 1, "GET", pause_s=0.1)]
    assert files.read_bytes(join_uri(s3_uri, "few")) == bytes(30)
    assert [request.method for request in proxy.requests].count("GET") == 1


def _meet(proxy: FaultProxy, fault: Fault, operate: Operation, uri: str, folder: Path) -> None:
    left = fault.times
    proxy.faults = [Fault(fault.kind, left, fault.method, fault.name_end, fault.answer, fault.pause_s)]
    operate(uri, folder)
    assert proxy.met == left
