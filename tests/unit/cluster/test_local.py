"""Tests the environment variables that a job sets before it imports Ray."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnlib.cluster import local as local_ray

AUTH = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def no_ray_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
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


def test_everything_set_is_a_string_and_nothing_else_is_touched() -> None:
    before = set(os.environ)
    local_ray.set_environment()
    assert {name for name in set(os.environ) - before if not name.startswith("RAY_")} == set()
    assert set(ray_settings()) == {
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_DATA_DISABLE_PROGRESS_BARS",
        "RAY_DATA_LOG_LEVEL",
        "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER",
        "RAY_TRAIN_ENABLE_PRINT_PATCH",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S",
        "RAY_TRAIN_METRICS_ENABLED",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S",
        "RAY_USAGE_STATS_ENABLED",
    }
