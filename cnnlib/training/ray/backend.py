"""Lets the workers find each other: Ray gives each worker its rank, and this file gives it TF_CONFIG."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import ray
from ray.train.backend import Backend, BackendConfig

from cnnlib.cluster.local import bypass_proxy


@dataclass
class MultiWorkerConfig(BackendConfig):  # type: ignore[misc]
    """Makes Ray Train set TF_CONFIG on every worker.

    Ray's own `TensorflowConfig` does not serve here. It switches every worker to Keras 2 (TF_USE_LEGACY_KERAS=1), and
    importing it loads TensorFlow into the driver and the controller, which costs 10 s of CPU in each.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that sets TF_CONFIG."""
        return _MultiWorkerBackend


def set_tf_config(addresses: Sequence[str], rank: int) -> None:
    """Sets TF_CONFIG in this process: the addresses (host:port) of all workers by rank, and this worker's rank.

    Connections to the workers go past a proxy.
    """
    bypass_proxy(address.rpartition(":")[0].strip("[]") for address in addresses)
    task = {"type": "worker", "index": rank}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(addresses)}, "task": task})


class _WorkerGroup(Protocol):
    """The part of Ray Train's worker group that this file uses."""

    def execute(self, function: Callable[[], str]) -> list[str]:
        """Runs a function on every worker and returns the results by rank."""

    def execute_single_async(
        self, rank: int, function: Callable[[Sequence[str], int], None], *args: object
    ) -> ray.ObjectRef:
        """Starts a function on one worker."""


class _MultiWorkerBackend(Backend):  # type: ignore[misc]
    def on_start(self, worker_group: _WorkerGroup, backend_config: BackendConfig) -> None:
        del backend_config
        addresses = worker_group.execute(_find_free_address)
        ranks = range(len(addresses))
        ray.get([worker_group.execute_single_async(rank, set_tf_config, addresses, rank) for rank in ranks])


def _find_free_address() -> str:
    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
