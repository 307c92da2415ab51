"""Tests how workers learn the addresses of each other."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray.train.backend import Backend, BackendConfig

from cnnlib.training.ray import backend
from cnnlib.training.ray.backend import MultiWorkerConfig


class FakeWorkerGroup:
    """Stands in for a group of two workers, and runs their functions in this process."""

    def execute(self, function: Callable[[], str]) -> list[str]:
        assert function is backend._find_free_address
        return ["10.0.0.1:1234", "10.0.0.2:5678"]

    def execute_single_async(self, rank: int, function: Callable[..., None], *args: Any) -> dict[str, Any]:
        function(*args)
        return {"rank": rank, **json.loads(os.environ["TF_CONFIG"])}


def test_every_worker_learns_all_addresses_and_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "get", configs.extend)
    config = MultiWorkerConfig()
    assert isinstance(config, BackendConfig)
    assert issubclass(config.backend_cls, Backend)
    config.backend_cls().on_start(FakeWorkerGroup(), config)
    cluster = {"worker": ["10.0.0.1:1234", "10.0.0.2:5678"]}
    assert configs == [
        {"rank": rank, "cluster": cluster, "task": {"type": "worker", "index": rank}} for rank in (0, 1)
    ]
    # Ray's own backend would switch every worker to Keras 2.
    assert os.environ.get("TF_USE_LEGACY_KERAS") in (None, "0")


def test_address_is_free_and_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    host, port = backend._find_free_address().rsplit(":", 1)
    assert host == "127.0.0.1"
    with socket.socket() as probe:
        probe.bind((host, int(port)))


def test_address_of_a_host_with_ipv6_is_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "fd00::7")
    address = backend._find_free_address()
    assert address.startswith("[fd00::7]:")
    assert int(address.rsplit(":", 1)[1]) > 0


def test_workers_reach_each_other_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy", "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    backend.set_tf_config(["10.0.0.1:2222", "[fd00::2]:2222"], 1)
    assert os.environ["no_proxy"] == "10.0.0.1,fd00::2"
