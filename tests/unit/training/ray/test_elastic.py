"""How many workers train by the room that the cluster has, and when more are asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import ControllerError, ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import NoopDecision, ResizeDecision

from cnnlib.cluster import machines
from cnnlib.cluster.machines import free_resources, total_resources
from cnnlib.errors import ClusterError, RestartError
from cnnlib.training.ray import elastic, trainer
from cnnlib.training.ray.elastic import GRACE_S, ElasticPolicy, count_room
from cnnlib.training.ray.trainer import WaitForRoom


class Rig:
    """A policy on a cluster that is written down, at a time that is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, counts: list[int]) -> None:
        self.now, self.asked = 100.0, list[str]()
        self.total: dict[str, dict[str, float]] = {}
        self.free: dict[str, dict[str, float]] = {}
        monkeypatch.setattr(elastic, "total_resources", lambda: self.total)
        monkeypatch.setattr(elastic, "free_resources", lambda: self.free)
        config = ScalingConfig(num_workers=counts[-1], resources_per_worker={"CPU": 2})
        self.policy = ElasticPolicy(config, counts, clock=lambda: self.now, ask=self.asked.append)
        monkeypatch.setattr(self.policy, "_maybe_send_resource_request", lambda: None)

    def start(self) -> int | None:
        """Returns how many workers are to start; None: the policy waits."""
        decision = self.policy.make_decision_for_non_running_worker_group()
        if isinstance(decision, NoopDecision):
            return None
        assert isinstance(decision, ResizeDecision)
        assert decision.resources_per_worker == {"CPU": 2}
        return decision.num_workers

    def look(self, *nodes: str, after_s: float = 4.0) -> None:
        """Lets the policy look while workers run on some nodes."""
        self.now += after_s
        workers: Any = SimpleNamespace(
            workers=[SimpleNamespace(metadata=SimpleNamespace(node_id=node)) for node in nodes]
        )
        decision = self.policy.make_decision_for_running_worker_group(workers, SimpleNamespace())  # type: ignore[arg-type]
        assert isinstance(decision, NoopDecision), "the chief saves before anything changes"


def test_as_many_start_as_there_is_room_for_and_as_divide_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, [1, 2, 4])
    rig.total = rig.free = {"a": {"CPU": 5}, "b": {"CPU": 3}}
    assert rig.start() == 2, "room for three, which do not divide the batch"
    rig.total = rig.free = {"a": {"CPU": 99}}
    assert rig.start() == 4


def test_what_is_taken_is_waited_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, [2, 4])
    rig.total, rig.free = {"a": {"CPU": 8}}, {"a": {"CPU": 5}}
    assert rig.start() is None
    rig.now += GRACE_S - 1
    assert rig.start() is None
    rig.now += 1
    assert rig.start() == 2
    assert rig.start() is None, "the next start waits anew"


def test_with_room_for_none_the_fewest_are_chosen_and_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, [2, 4])
    rig.total = rig.free = {"a": {"CPU": 2}}
    assert rig.start() == 2


def test_workers_that_failed_still_hold_what_the_next_will_have(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, [1, 2, 3])
    rig.total, rig.free = {"a": {"CPU": 2}, "b": {"CPU": 4}}, {"a": {"CPU": 0}, "b": {"CPU": 0}}
    rig.look("a", "b", "b")
    assert rig.start() == 3
    rig.look("a", "b", "b")
    del rig.total["b"], rig.free["b"]  # lost
    assert rig.start() == 1


def test_more_are_asked_for_when_there_was_more_room_at_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, [1, 2, 4])
    rig.total, rig.free = {"a": {"CPU": 2}}, {"a": {"CPU": 0}}
    rig.look("a")
    rig.free = {"a": {"CPU": 0}, "b": {"CPU": 4}}
    rig.look("a")
    assert rig.asked == []
    rig.look("a", after_s=1)
    assert rig.asked == [], "too soon for a second look"
    rig.look("a", after_s=2)
    assert rig.asked == ["there is room for 2 workers instead of 1"]
    rig.free = {"a": {"CPU": 0}, "b": {"CPU": 0}}
    rig.look("a", "b")
    rig.look("a", "b")
    assert len(rig.asked) == 1


def test_room_is_that_of_whole_workers_on_one_machine() -> None:
    machines = {"a": {"CPU": 3.0, "GPU": 1.0}, "b": {"CPU": 3.0}}
    assert count_room(machines, {"CPU": 2}) == 2
    assert count_room(machines, {"CPU": 2, "GPU": 1}) == 1
    assert count_room(machines, {"CPU": 2, "GPU": 1}, held=["b"]) == 2


def test_a_machine_that_leaves_gives_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"NodeID": name, "Alive": name != "dead", "Resources": {"CPU": 4.0}}
        for name in ("a", "dead", "leaves")
    ]
    monkeypatch.setattr(machines.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(machines, "available_resources_per_node", lambda: {"a": {"CPU": 1.0}, "leaves": {}})
    monkeypatch.setattr(machines, "leaving_machines", lambda: ["leaves"])
    assert total_resources() == {"a": {"CPU": 4.0}}
    assert free_resources() == {"a": {"CPU": 1.0}}


def test_room_that_is_gone_is_no_failure_while_fewer_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def refuse(bundles: Any, what: str, wait_s: float) -> Any:
        waited.append(wait_s)
        raise ClusterError(f"no room for {what}")

    monkeypatch.setattr(trainer, "hold", refuse)
    context: Any = SimpleNamespace(resources_per_worker={"CPU": 1}, num_workers=3)
    with pytest.raises(ControllerError) as raised:
        WaitForRoom(600.0, 2).before_worker_group_start(context)
    assert isinstance(raised.value.controller_failure, RestartError)
    context.num_workers = 2
    with pytest.raises(ControllerError) as raised:
        WaitForRoom(600.0, 2).before_worker_group_start(context)
    assert isinstance(raised.value.controller_failure, ClusterError)
    assert waited == [GRACE_S, 600.0]
