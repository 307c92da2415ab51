"""Tests the environment variables that a job sets before it imports Ray."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ray._private.utils import validate_socket_filepath

from cnnlib.cluster import local as local_ray
from cnnlib.errors import ConfigError

AUTH = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def no_ray_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def ray_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


def test_no_address_is_local_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_ray.in_local_mode()
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert local_ray.in_local_mode()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert not local_ray.in_local_mode()


def test_ray_of_our_own_asks_for_a_token_that_nobody_can_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    local_ray.set_environment()
    token = os.environ["RAY_AUTH_TOKEN"]
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(bytes.fromhex(token)) == 32
    for name in AUTH[:2]:
        monkeypatch.delenv(name)
    local_ray.set_environment()
    assert os.environ["RAY_AUTH_TOKEN"] != token


def test_token_is_private(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    local_ray.set_environment()
    assert list(tmp_path.iterdir()) == []
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_second_call_keeps_the_token() -> None:
    local_ray.set_environment()
    before = ray_settings()
    local_ray.set_environment()
    assert ray_settings() == before


@pytest.mark.parametrize(("name", "value"), list(zip(AUTH, ("disabled", "secret", "/a/file"), strict=True)))
def test_authentication_that_the_user_chose_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    local_ray.set_environment()
    assert {each: os.environ[each] for each in AUTH if each in os.environ} == {name: value}


def test_given_cluster_keeps_its_authentication_and_its_preemption_watcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    local_ray.set_environment()
    settings = ray_settings()
    assert not set(AUTH) & set(settings)
    assert "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER" not in settings
    assert settings["RAY_USAGE_STATS_ENABLED"] == "0"


def test_settings_of_the_users_own_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_DATA_LOG_LEVEL", "DEBUG")
    local_ray.set_environment()
    assert os.environ["RAY_DATA_LOG_LEVEL"] == "DEBUG"
    assert os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"


def test_first_tries_to_reach_a_raylet_come_fast_and_are_together_as_long_as_rays_own() -> None:
    local_ray.set_environment()
    settings = ray_settings()
    pause_ms = int(settings["RAY_raylet_client_connect_timeout_milliseconds"])
    assert pause_ms <= 100
    assert int(settings["RAY_raylet_client_num_connect_attempts"]) * pause_ms >= 10 * 1000


def test_everything_set_is_a_string_and_nothing_else_is_touched() -> None:
    before = set(os.environ)
    local_ray.set_environment()
    assert {name for name in set(os.environ) - before if not name.startswith("RAY_")} == set()
    assert set(ray_settings()) == {
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_COLOR_PREFIX",
        "RAY_DATA_DISABLE_PROGRESS_BARS",
        "RAY_DATA_LOG_LEVEL",
        "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER",
        "RAY_TRAIN_ENABLE_PRINT_PATCH",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S",
        "RAY_TRAIN_METRICS_ENABLED",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S",
        "RAY_USAGE_STATS_ENABLED",
        "RAY_raylet_client_connect_timeout_milliseconds",
        "RAY_raylet_client_num_connect_attempts",
        "RAY_task_oom_retries",
    }


# Proxies. A proxy cannot reach the addresses of this machine.


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTPS_PROXY", "grpc_proxy"])
def test_connections_to_this_machine_go_past_a_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv(proxy, "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "intranet")
    local_ray.set_environment()
    local_ray.set_environment()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet,localhost,127.0.0.1,::1"
    assert "no_grpc_proxy" not in os.environ


def test_the_variable_that_grpc_reads_first_gets_the_hosts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_grpc_proxy", "other")
    local_ray.bypass_proxy(["10.0.0.7"])
    assert os.environ[local_ray._GRPC_VARIABLE] == "other,10.0.0.7"
    assert os.environ["no_proxy"] == "10.0.0.7"


# The folder of Ray's sockets, whose paths have at most 107 bytes.


def test_folder_as_long_as_allowed_is_long_enough_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = "/" + "x" * (107 - len(local_ray._SOCKET) - 2)
    validate_socket_filepath(f"{longest}/{local_ray._SOCKET}")
    monkeypatch.setenv("RAY_TMPDIR", longest)
    local_ray.set_short_temp_folder()
    with pytest.raises(OSError, match="cannot exceed 107 bytes"):
        validate_socket_filepath(f"{longest}x/{local_ray._SOCKET}")
    monkeypatch.setenv("RAY_TMPDIR", longest + "x")
    with pytest.raises(
        ConfigError, match=rf"is too long for Ray's sockets\. Expected at most {len(longest)} bytes\."
    ):
        local_ray.set_short_temp_folder()


def test_long_folder_of_a_scheduler_is_replaced_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", "/scratch/" + "x" * 90)
    local_ray.set_short_temp_folder()
    assert os.environ["RAY_TMPDIR"] == "/tmp"
    assert "too long for Ray's sockets: they are in /tmp" in capsys.readouterr().err
