"""Reading, writing, listing and publishing keep the same promises on a local disk and on a real S3 server."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.errors import AccessError, ConflictError, InputError, NotFoundError, StorageError
from cnnlib.storage import files, publish, s3
from cnnlib.storage.patience import SILENCE_VARIABLE, WAIT_VARIABLE
from cnnlib.storage.range_file import open_range_file
from cnnlib.storage.uri import is_s3, join_uri, split_s3
from infra import local_s3
from infra.local_s3 import LocalS3Server

# --- both kinds of storage ---


def test_bytes_come_back_as_written(base_uri: str) -> None:
    uri = join_uri(base_uri, "deep", "er", "object.bin")
    files.write_bytes(uri, b"first")
    files.write_bytes(uri, b"second, longer")
    assert files.read_bytes(uri) == b"second, longer"
    assert files.find_size(uri) == 14


def test_absent_object_has_no_size_and_cannot_be_read(base_uri: str, tmp_path: Path) -> None:
    uri = join_uri(base_uri, "absent.json")
    assert files.find_size(uri) is None
    with pytest.raises(NotFoundError, match=r"absent\.json"):
        files.read_bytes(uri)
    with pytest.raises(NotFoundError, match=r"absent\.json"):
        files.download(uri, tmp_path / "copy")


def test_parts_of_an_object_can_be_read(base_uri: str) -> None:
    uri = join_uri(base_uri, "object.bin")
    files.write_bytes(uri, b"0123456789")
    assert [files.read_range(uri, *part) for part in ((0, 3), (4, 0), (8, 9))] == [b"012", b"", b"89"]
    with pytest.raises(NotFoundError, match=r"absent\.bin"):
        files.read_range(join_uri(base_uri, "absent.bin"), 0, 1)


def test_an_object_can_be_read_as_a_file_in_any_order(base_uri: str) -> None:
    uri, data = join_uri(base_uri, "object.bin"), bytes(range(256)) * 40
    files.write_bytes(uri, data)
    with open_range_file(uri, len(data), buffer_bytes=64) as file:
        file.seek(-5, os.SEEK_END)
        assert file.read() == data[-5:]
        file.seek(300)
        assert (file.read(1000), file.tell()) == (data[300:1300], 1300)
        file.seek(20_000)
        assert file.read(10) == b"", "it ends where the object ends"
        file.seek(0)
        assert file.read() == data


def test_an_object_is_found_as_its_listing_shows_it(base_uri: str) -> None:
    uri = join_uri(base_uri, "object.bin")
    files.write_bytes(uri, b"0123456789")
    assert [files.find_object(uri)] == files.list_objects(base_uri)
    assert files.find_object(base_uri) is None
    assert files.find_object(f"{uri}.absent") is None


def test_folder_is_not_an_object(base_uri: str) -> None:
    files.write_bytes(join_uri(base_uri, "folder", "object"), b"x")
    assert files.find_size(join_uri(base_uri, "folder")) is None


def test_create_keeps_what_the_first_writer_wrote(base_uri: str) -> None:
    uri = join_uri(base_uri, "once")
    assert files.create_bytes(uri, b"first") is True
    assert files.create_bytes(uri, b"second") is False
    assert files.read_bytes(uri) == b"first"


def test_exactly_one_of_many_writers_creates_an_object(base_uri: str) -> None:
    uri = join_uri(base_uri, "contended")
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda writer: files.create_bytes(uri, b"%d" % writer), range(8)))
    assert created.count(True) == 1
    assert files.read_bytes(uri) == b"%d" % created.index(True)


def test_listing_is_sorted_and_deep_and_stays_in_its_folder(base_uri: str) -> None:
    names = ["runs/b-c/1", "runs/b/1", "runs/b.txt", "runs/a", "runs2/a", "run", "runs/b/é x"]
    for name in names:
        files.write_bytes(join_uri(base_uri, name), name.encode())
    listed = files.list_objects(join_uri(base_uri, "runs") + "/")
    assert all(stored.version for stored in listed)
    assert [stored[:2] for stored in listed] == sorted(
        (join_uri(base_uri, name), len(name.encode())) for name in names if name.startswith("runs/")
    )


def test_listing_hides_unfinished_writes_and_folder_markers(base_uri: str) -> None:
    for name in ["a", ".probe-1", "b/.1234.tmp", ".hidden/c"]:
        files.write_bytes(join_uri(base_uri, name), b"x")
    if is_s3(base_uri):
        bucket, key = split_s3(base_uri)
        s3._client().put_object(Bucket=bucket, Key=f"{key}/marker/", Body=b"")
    else:
        (Path(base_uri) / "marker").mkdir()
    assert [found.uri for found in files.list_objects(base_uri)] == [join_uri(base_uri, "a")]


def test_folders_are_listed_by_name_one_level_deep(base_uri: str) -> None:
    for name in ["b/1", "a/1", "a/deeper/1", "top", ".hidden/1"]:
        files.write_bytes(join_uri(base_uri, name), b"x")
    assert files.list_folders(base_uri) == ["a", "b"]
    assert files.list_files(base_uri) == ["top"]


def test_absent_folder_lists_as_empty(base_uri: str) -> None:
    assert files.list_objects(join_uri(base_uri, "absent")) == []
    assert files.list_folders(join_uri(base_uri, "absent")) == []
    assert files.list_files(join_uri(base_uri, "absent")) == []


def test_deleting_twice_is_as_good_as_once(base_uri: str) -> None:
    uri = join_uri(base_uri, "object")
    files.write_bytes(uri, b"x")
    files.delete(uri)
    files.delete(uri)
    assert files.find_size(uri) is None


def test_big_file_survives_upload_and_download(base_uri: str, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "new folder" / "copy"
    source.write_bytes(os.urandom(9 * 2**20))  # More than 8 MiB is sent in parts.
    uri = join_uri(base_uri, "folder", "big")
    files.upload(source, uri)
    files.download(uri, copy)
    assert files.find_size(uri) == 9 * 2**20
    assert copy.read_bytes() == source.read_bytes()


def test_upload_of_a_missing_file_names_the_file(base_uri: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no-such-file"):
        files.upload(tmp_path / "no-such-file", join_uri(base_uri, "object"))


def test_writable_check_leaves_nothing_behind(base_uri: str, tmp_path: Path) -> None:
    files.check_writable(join_uri(base_uri, "not", "there", "yet"))
    assert list(tmp_path.iterdir()) == []
    if is_s3(base_uri):
        bucket, key = split_s3(base_uri)
        assert s3._client().list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] == 0


# --- S3 ---


def test_listing_goes_on_after_the_first_page(s3_uri: str) -> None:
    uris = [join_uri(s3_uri, f"folder-{index}", "object") for index in range(5)]
    for uri in uris:
        files.write_bytes(uri, b"x")
    _on_request("provide-client-params", "ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2})
    assert [found.uri for found in files.list_objects(s3_uri)] == uris
    assert files.list_folders(s3_uri) == [f"folder-{index}" for index in range(5)]


def test_web_page_is_stored_as_a_page_so_that_browsers_open_it(s3_uri: str) -> None:
    files.write_bytes(join_uri(s3_uri, "report.html"), b"<!doctype html>")
    bucket, key = split_s3(s3_uri)
    assert s3._client().head_object(Bucket=bucket, Key=f"{key}/report.html")["ContentType"] == "text/html"


@pytest.mark.parametrize(
    "use",
    [
        files.read_bytes,
        files.list_objects,
        files.list_folders,
        files.delete,
        files.check_writable,
        lambda uri: files.write_bytes(uri, b"x"),
        lambda uri: files.create_bytes(uri, b"x"),
        lambda uri: files.upload(Path(__file__), uri),
    ],
)
def test_missing_bucket_is_named(s3_uri: str, use: Any) -> None:
    with pytest.raises(AccessError, match=r"no bucket 'no-such-bucket' at http://127\.0\.0\.1"):
        use("s3://no-such-bucket/key")


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_rejected_credentials_are_an_access_error(
    s3_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "wrong")
    for use in (files.read_bytes, files.find_size, files.list_objects, files.check_writable):
        with pytest.raises(AccessError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            use(s3_uri)


@pytest.mark.parametrize("use", [files.read_bytes, files.check_writable])
def test_missing_credentials_are_an_access_error(
    s3_uri: str, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessError, match="Expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        use(s3_uri)


def test_unknown_profile_is_an_access_error(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AccessError, match="nobody"):
        files.read_bytes(s3_uri)


def test_closed_port_is_given_up_soon_and_names_the_endpoint(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv(WAIT_VARIABLE, "0")
        pauses: list[float] = []
        monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=pauses.append))
        with pytest.raises(StorageError, match=f"No answer from {endpoint}"):
            files.read_bytes(s3_uri)
    assert len(pauses) == 2
    assert all(pause <= most for pause, most in zip(pauses, (1, 2), strict=True)), pauses  # seconds


def test_server_that_never_answers_is_given_up(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SILENCE_VARIABLE, "0.3")
    monkeypatch.setenv(WAIT_VARIABLE, "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StorageError, match=f"No answer from {endpoint}"):
            files.find_size(s3_uri)


def test_server_that_is_started_again_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = local_s3._find_free_ports()
    server = LocalS3Server(f"http://127.0.0.1:{ports['s3']}", "key", "secret")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    command = local_s3._build_command(tmp_path, tmp_path, server, ports)
    object_uri, stop = "s3://restarted/object", threading.Event()

    def start_again() -> None:
        time.sleep(2)  # longer than boto3 waits by itself
        with local_s3._run_process(command, tmp_path):
            stop.wait(120)

    again = threading.Thread(target=start_again)
    try:
        with local_s3._run_process(command, tmp_path) as process:
            local_s3._wait_until_listening(ports["s3"], process, tmp_path)
            local_s3._make_buckets(server, ["restarted"])
            files.write_bytes(object_uri, b"before")
        again.start()
        assert files.create_bytes("s3://restarted/created", b"during") is True
        assert files.create_bytes("s3://restarted/created", b"again") is False
        assert files.read_bytes(object_uri) == b"before"
    finally:
        stop.set()
        if again.ident:
            again.join()
        local_s3._remove_traces(tmp_path, ports)
    assert capsys.readouterr().err.count("storage does not answer (EndpointConnectionError)") == 1


def test_answer_to_a_creation_that_is_lost_does_not_give_the_object_to_somebody_else(s3_uri: str) -> None:
    lost = [ConnectionClosedError(endpoint_url="http://server")]
    _on_request("needs-retry", "PutObject", lambda **_: _raise(lost.pop()) if lost else None)
    uri = join_uri(s3_uri, "object")
    assert files.create_bytes(uri, b"ours") is True
    assert lost == []
    assert files.read_bytes(uri) == b"ours"
    assert files.create_bytes(uri, b"ours") is False


def test_endpoint_without_scheme_is_explained(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:8333")
    with pytest.raises(InputError, match="AWS_ENDPOINT_URL with its scheme"):
        files.read_bytes(s3_uri)


@pytest.mark.parametrize("uri", ["s3://tests", "s3://not a bucket/key"])
def test_impossible_name_is_an_input_error(s3_uri: str, uri: str) -> None:
    with pytest.raises(InputError, match="Expected s3://bucket/key"):
        files.read_bytes(uri)


def test_server_that_ignores_put_if_absent_is_not_called_writable(s3_uri: str) -> None:
    def forget_the_condition(request: Any, **_: object) -> None:
        del request.headers["If-None-Match"]

    _on_request("before-sign", "PutObject", forget_the_condition)
    with pytest.raises(StorageError, match="put-if-absent"):
        files.check_writable(s3_uri)


def test_create_tries_again_after_a_conflict_with_a_delete(s3_uri: str) -> None:
    _answer_once("PutObject", 409, b"<Error><Code>ConditionalRequestConflict</Code></Error>", {})
    assert files.create_bytes(join_uri(s3_uri, "object"), b"x") is True


def test_create_gives_way_after_a_conflict_with_another_writer(s3_uri: str) -> None:
    files.write_bytes(join_uri(s3_uri, "object"), b"theirs")
    _answer_once("PutObject", 409, b"<Error><Code>ConditionalRequestConflict</Code></Error>", {})
    assert files.create_bytes(join_uri(s3_uri, "object"), b"ours") is False


def test_read_starts_again_when_the_answer_breaks_off(s3_uri: str) -> None:
    files.write_bytes(join_uri(s3_uri, "object"), b"whole")
    _answer_once("GetObject", 200, b"who", {"Content-Length": "5"})
    assert files.read_bytes(join_uri(s3_uri, "object")) == b"whole"


def test_client_is_not_taken_through_a_fork(s3_uri: str) -> None:
    files.write_bytes(join_uri(s3_uri, "parent"), b"x")

    def report_inherited_clients() -> None:
        files.write_bytes(join_uri(s3_uri, "inherited"), b"%d" % s3._client.cache_info().currsize)

    child = multiprocessing.get_context("fork").Process(target=report_inherited_clients)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert files.read_bytes(join_uri(s3_uri, "inherited")) == b"0"


def test_endpoint_region_and_keys_of_the_aws_config_file_are_found(
    s3_uri: str, s3_server: LocalS3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in s3_server.environment():
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        "[profile lab]\nregion = eu-west-1\n"
        f"endpoint_url = {s3_server.endpoint_url}\n"
        f"aws_access_key_id = {s3_server.access_key}\naws_secret_access_key = {s3_server.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    files.write_bytes(join_uri(s3_uri, "object"), b"bytes")
    assert files.read_bytes(join_uri(s3_uri, "object")) == b"bytes"
    assert s3._client().meta.region_name == "eu-west-1"


# --- local files ---


@pytest.fixture
def not_root() -> Iterator[None]:
    """Drops, for one test, root's permission to write everywhere."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65534)
    yield
    os.seteuid(uid)


def test_missing_permission_is_an_access_error(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    request.getfixturevalue("not_root")
    for use in (files.check_writable, lambda uri: files.write_bytes(f"{uri}/object", b"x")):
        with pytest.raises(AccessError, match="Not permitted"):
            use(str(folder))


def test_file_where_a_folder_is_expected_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    uri = str(tmp_path / "file")
    for use in (files.list_objects, files.check_writable, lambda uri: files.read_bytes(f"{uri}/object")):
        with pytest.raises(InputError, match="mixed up"):
            use(uri)
    assert os.listdir(tmp_path) == ["file"]


def test_folder_where_a_file_is_expected_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for use in (files.read_bytes, lambda uri: files.write_bytes(uri, b"x")):
        with pytest.raises(InputError, match="mixed up"):
            use(str(tmp_path / "folder"))
    assert os.listdir(tmp_path) == ["folder"]


def test_linked_folders_are_listed(tmp_path: Path) -> None:
    files.write_bytes(str(tmp_path / "elsewhere" / "image"), b"x")
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes" / "cat").symlink_to(tmp_path / "elsewhere")
    assert files.list_folders(str(tmp_path / "classes")) == ["cat"]
    assert [found.uri for found in files.list_objects(str(tmp_path / "classes"))] == [
        str(tmp_path / "classes" / "cat" / "image")
    ]


def test_written_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    files.write_bytes(str(tmp_path / "written"), b"x")
    files.create_bytes(str(tmp_path / "created"), b"x")
    assert len({stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}) == 1


# --- publishing ---

_MANIFEST = {"step": 7, "classes": ["Ärmel", "Bag"], "loss": 0.25}


def test_manifest_comes_back_as_written(base_uri: str) -> None:
    uri = join_uri(base_uri, "manifest.json")
    assert publish.write_manifest(uri, _MANIFEST) is True
    assert publish.write_manifest(uri, dict(reversed(_MANIFEST.items()))) is False
    assert publish.read_manifest(uri) == _MANIFEST


def test_manifest_of_something_else_is_kept_and_the_difference_named(base_uri: str) -> None:
    uri = join_uri(base_uri, "manifest.json")
    publish.write_manifest(uri, _MANIFEST)
    with pytest.raises(ConflictError, match=r"differs in extra, step\."):
        publish.write_manifest(uri, _MANIFEST | {"step": 8, "extra": None})
    assert publish.read_manifest(uri) == _MANIFEST


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[1]", b""])
def test_manifest_that_is_not_a_json_object_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    files.write_bytes(str(tmp_path / "manifest.json"), content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        publish.read_manifest(str(tmp_path / "manifest.json"))


def test_crash_before_the_manifest_leaves_files_that_the_next_attempt_replaces(
    base_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").write_bytes(b"first attempt")
    (tmp_path / "state").write_bytes(b"state")
    parts = {"model.keras": tmp_path / "model", "state.npz": tmp_path / "state"}
    with monkeypatch.context() as crash:
        crash.setattr(publish, "write_manifest", _crash)
        with pytest.raises(KeyboardInterrupt):
            publish.publish_files(base_uri, parts, _MANIFEST)
    assert [found.uri for found in files.list_objects(base_uri)] == [
        join_uri(base_uri, name) for name in parts
    ]

    (tmp_path / "model").write_bytes(b"second attempt")
    assert publish.publish_files(base_uri, parts, _MANIFEST) is True
    assert files.read_bytes(join_uri(base_uri, "model.keras")) == b"second attempt"


def test_published_files_are_never_touched_again(base_uri: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"published")
    publish.publish_files(base_uri, {"model.keras": tmp_path / "model"}, _MANIFEST)
    (tmp_path / "model").write_bytes(b"late")
    assert publish.publish_files(base_uri, {"model.keras": tmp_path / "model"}, _MANIFEST) is False
    with pytest.raises(ConflictError):
        publish.publish_files(base_uri, {"model.keras": tmp_path / "model"}, {"step": 8})
    assert files.read_bytes(join_uri(base_uri, "model.keras")) == b"published"


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé\n\"'"),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text("abc"), children, max_size=3),
    max_leaves=10,
)


@given(document=st.dictionaries(st.text("abc"), _JSON, max_size=4))
def test_json_is_the_same_for_any_order_of_keys_and_loads_back(document: dict[str, Any]) -> None:
    data = publish.canonical_json(document)
    assert publish.canonical_json(dict(reversed(document.items()))) == data
    assert json.loads(data) == document
    assert data.endswith(b"\n")


def test_json_refuses_a_number_that_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="JSON"):
        publish.canonical_json({"loss": float("nan")})


# --- helpers ---


def _crash(*_: object) -> bool:
    raise KeyboardInterrupt


def _raise(err: Exception) -> None:
    raise err


def _on_request(event: str, operation: str, hook: Any) -> None:
    """Registers a hook that sees or changes this test's requests before they reach the real server."""
    s3._client().meta.events.register(f"{event}.s3.{operation}", hook)


def _answer_once(operation: str, status: int, body: bytes, headers: Any) -> None:
    """Answers the next request instead of the server."""

    class Raw(io.BytesIO):
        def stream(self, **_: object) -> Iterator[bytes]:
            yield self.read()

    answers = [AWSResponse("http://127.0.0.1", status, headers, Raw(body))]
    _on_request("before-send", operation, lambda **_: answers.pop() if answers else None)
