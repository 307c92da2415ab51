"""Tests a Ray of our own that does not start: a second attempt with more time, then one line, and no process left."""

from __future__ import annotations

import inspect
import itertools
import os
import subprocess

import pytest
import ray
from ray._private import node, services

from cnnlib.cluster import start
from cnnlib.cluster.start import start_ray
from cnnlib.errors import ClusterError, ConfigError

TOO_SLOW = Exception("The current node timed out during startup.\nThis could happen")


@pytest.fixture(autouse=True)
def no_temp_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR", start._PORT_WAIT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


def test_ray_still_waits_for_what_gets_more_time() -> None:
    source = inspect.getsource(node)
    assert "ray._private.services.get_node(" in source
    assert "raylet_start_wait_time_s = 30" in source
    assert f'os.environ.get("{start._PORT_WAIT}", default_wait)' in source
    assert list(inspect.signature(services.get_node).parameters) == ["gcs_address", "node_id"]
    assert "_get_gcs_client_options(gcs_address)" in inspect.getsource(services.get_node)


def test_head_still_starts_what_is_left_out() -> None:
    source = inspect.getsource(node.Node.start_head_processes)
    assert "self.start_api_server(" in source
    assert "self.start_monitor()" in source
    assert "self._webui_url, process_info =" in inspect.getsource(node.Node.start_api_server)


def test_dashboard_and_autoscaler_are_left_out_of_our_own_start_only() -> None:
    before = node.Node.start_api_server, node.Node.start_monitor
    head = node.Node.__new__(node.Node)

    def init() -> None:
        head.start_monitor()
        head.start_api_server(include_dashboard=False, raise_on_failure=False)

    start_ray(init)
    assert head._webui_url is None
    assert (node.Node.start_api_server, node.Node.start_monitor) == before


def test_node_is_asked_for_as_soon_as_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [[], [{"NodeID": "b"}], [{"NodeID": "b"}, {"NodeID": "a"}]]
    slept: list[float] = []

    class State:
        def _initialize_global_state(self, options: object) -> None: ...

        def node_table(self) -> list[dict[str, str]]:
            return tables.pop(0)

    def get_node(gcs_address: str, node_id: str) -> dict[str, str]:
        assert tables == []
        return {"node_id": node_id}

    monkeypatch.setattr(start, "GlobalState", State)
    monkeypatch.setattr(start.time, "sleep", slept.append)
    monkeypatch.setattr(services, "_get_gcs_client_options", lambda address: address)
    monkeypatch.setattr(services, "get_node", get_node)
    found: list[object] = []
    start_ray(lambda: found.append(services.get_node("127.0.0.1:1", "a")))
    assert found == [{"node_id": "a"}]
    assert slept == [0.05, 0.05]
    assert services.get_node is get_node


def test_second_attempt_waits_for_a_node_that_is_late(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = itertools.count()

    class NoState:
        def __init__(self) -> None:
            raise ConnectionError

    def get_node(gcs_address: str, node_id: str) -> dict[str, str]:
        if next(asked) < 3:
            raise RuntimeError("not there yet")
        return {"node_id": node_id}

    def init() -> None:
        try:
            assert services.get_node("127.0.0.1:1", "a") == {"node_id": "a"}
            assert os.environ[start._PORT_WAIT] == "120"
        except RuntimeError:
            raise TOO_SLOW from None

    monkeypatch.setattr(start.time, "sleep", lambda _: None)
    monkeypatch.setattr(start, "GlobalState", NoState)
    monkeypatch.setattr(services, "get_node", get_node)
    start_ray(init)
    assert services.get_node is get_node
    assert start._PORT_WAIT not in os.environ
    assert capsys.readouterr().err == (
        'cluster note="Ray did not start; trying again for 120 s" reason="The current node timed out during startup"\n'
    )


def test_start_that_fails_twice_is_one_line() -> None:
    attempts = []

    def init() -> None:
        attempts.append(1)
        raise TOO_SLOW

    with pytest.raises(ClusterError) as raised:
        start_ray(init)
    assert len(attempts) == 2
    assert str(raised.value).startswith(
        "Ray did not start on this machine, also not in a second attempt of 120 s: "
        "The current node timed out during startup. The machine may be overloaded"
    )


def test_failed_start_leaves_no_process() -> None:
    started: list[subprocess.Popen[bytes]] = []

    class SlowNode(node.Node):
        def __init__(self) -> None:
            process = subprocess.Popen(["sleep", "600"])
            started.append(process)
            self.all_processes = {}
            self.kill_all_processes = lambda **_: process.kill()
            raise TOO_SLOW

    with pytest.raises(ClusterError):
        start_ray(SlowNode)
    assert [process.wait(timeout=10) for process in started] == [-9, -9]


def test_folder_that_is_too_long_for_sockets_is_refused_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 90)
    with pytest.raises(ConfigError, match="is too long for Ray's sockets"):
        start_ray(lambda: pytest.fail("Ray was started"))
