"""The actor that frees the resources of a training whose controller died asks the cluster that it runs on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner

from cnnlib.training.ray.cleaner import CleanerOfThisCluster


class Launched:
    """Takes what Ray takes to launch an actor, and launches none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, callback: PlacementGroupCleanerCallback) -> None:
        self.parts: dict[str, Any] = {}
        self.called: list[str] = []
        here = SimpleNamespace(get_actor_id=lambda: "ac70", gcs_address="10.0.0.5:6379")
        monkeypatch.setattr(ray, "remote", self._remote)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: here)
        monkeypatch.setattr(ray.runtime_context, "get_runtime_context", lambda: here)
        callback.after_controller_start(SimpleNamespace(run_id="run"))
        assert callback._cleaner is not None

    def _remote(self, **parts: Any) -> Any:
        self.parts["remote"] = parts
        return lambda kind: self.parts.update(kind=kind) or SimpleNamespace(options=self._options)

    def _options(self, **options: Any) -> Any:
        self.parts["options"] = options
        return SimpleNamespace(remote=self._start)

    def _start(self, **arguments: Any) -> Any:
        self.parts["arguments"] = arguments
        return SimpleNamespace(
            start_monitoring=SimpleNamespace(remote=lambda: self.called.append("start_monitoring"))
        )


def test_it_is_launched_with_the_address_of_its_own_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Launched(monkeypatch, CleanerOfThisCluster())
    assert ours.parts["kind"] is PlacementGroupCleaner
    assert ours.parts["options"]["runtime_env"] == {"env_vars": {"RAY_ADDRESS": "10.0.0.5:6379"}}


def test_all_else_is_as_ray_launches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rays = Launched(monkeypatch, PlacementGroupCleanerCallback())
    ours = Launched(monkeypatch, CleanerOfThisCluster())
    # When this fails, CleanerOfThisCluster may go.
    assert "runtime_env" not in rays.parts["options"]
    del ours.parts["options"]["runtime_env"]
    assert ours.parts == rays.parts
    assert ours.called == rays.called == ["start_monitoring"]
