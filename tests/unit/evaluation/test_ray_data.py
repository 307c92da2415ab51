"""The internals of Ray Data that this project replaces are still where they were."""

from __future__ import annotations

import functools
import inspect
import logging
import pickle
from types import SimpleNamespace

import pytest
from ray.data import DataContext
from ray.data._internal import progress
from ray.data._internal.cluster_autoscaler import placement_group_cluster_autoscaler
from ray.data._internal.execution import streaming_executor
from ray.data._internal.execution.operators import actor_pool_map_operator
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.operators.map_operator import MapOperator
from ray.data._internal.stats import _StatsManager
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cnnlib.cluster.local import ADDRESS_VARIABLE
from cnnlib.evaluation.ray_data import Unheard, inside, quiet_ray_data

ARGUMENTS = ("_data_context_ref", "_map_transformer_ref")


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_an_actor_are_still_references_to_what_we_hand_over(name: str) -> None:
    reference = inspect.getattr_static(MapOperator, name)
    assert isinstance(reference, functools.cached_property)
    value = {"_data_context_ref": "self.data_context", "_map_transformer_ref": "self._map_transformer"}[name]
    assert f"ray.put({value})" in inspect.getsource(reference.func)
    assert f"self.{name}" in inspect.getsource(ActorPoolMapOperator._start_actor)


def test_actors_get_their_arguments_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ARGUMENTS:
        monkeypatch.setattr(ActorPoolMapOperator, name, None, raising=False)
    monkeypatch.setattr(DataContext.get_current(), "enable_progress_bars", True)
    quiet_ray_data()
    operator = SimpleNamespace(data_context="context", _map_transformer="transformer")
    assert ActorPoolMapOperator._data_context_ref.fget(operator) == "context"
    assert ActorPoolMapOperator._map_transformer_ref.fget(operator) == "transformer"
    assert DataContext.get_current().enable_progress_bars is False


def test_logger_of_the_progress_bars_is_still_called_so() -> None:
    quiet_ray_data()
    assert progress.logger.name == "ray.data._internal.progress"
    assert not progress.logger.isEnabledFor(logging.WARNING)


@pytest.mark.filterwarnings("error")
def test_datasets_use_the_resources_of_a_group_only_within_the_block() -> None:
    context = DataContext.get_current()
    names = ("scheduling_strategy", "scheduling_strategy_large_args")
    before = [getattr(context, name) for name in names]
    group = PlacementGroup.empty()
    with inside(group):
        assert [getattr(context, name).placement_group for name in names] == [group, group]
    assert [getattr(context, name) for name in names] == before


REPLACED = (
    (_StatsManager, "gen_dataset_id_from_stats_actor"),
    (_StatsManager, "register_dataset_to_stats_actor"),
    (_StatsManager, "update_execution_metrics"),
    (_StatsManager, "update_iteration_metrics"),
    (placement_group_cluster_autoscaler, "DefaultAutoscalingCoordinator"),
    (actor_pool_map_operator, "get_or_create_actor_location_tracker"),
    (actor_pool_map_operator, "get_actor_locations"),
)
"""What starts or asks the actors that a Ray of our own does without."""


@pytest.fixture(autouse=True)
def originals(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in REPLACED:  # so that each is put back, whatever the test does
        monkeypatch.setattr(owner, name, inspect.getattr_static(owner, name))


@pytest.mark.parametrize(("address", "replaced"), [("", True), ("127.0.0.1:1", False)])
def test_helpers_are_left_out_of_a_ray_of_our_own_only(
    monkeypatch: pytest.MonkeyPatch, address: str, replaced: bool
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, address)
    untouched = object()
    for owner, name in REPLACED:
        monkeypatch.setattr(owner, name, untouched)
    quiet_ray_data()
    now = [inspect.getattr_static(owner, name) for owner, name in REPLACED]
    assert [each is not untouched for each in now] == [replaced] * len(REPLACED)


def test_what_stands_for_the_helpers_takes_the_calls_that_ray_data_makes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, "")
    quiet_ray_data()
    assert len({_StatsManager.gen_dataset_id_from_stats_actor() for _ in range(100)}) == 100
    _StatsManager.update_execution_metrics("tag", [], operator_tags=[], state={})
    tracker = pickle.loads(pickle.dumps(actor_pool_map_operator.get_or_create_actor_location_tracker()))
    assert isinstance(tracker, Unheard)
    assert tracker.update_actor_location.remote("actor", "node") is None
    assert actor_pool_map_operator.get_actor_locations(("actor",)) == {}
    bundles = [{"CPU": 2.0}, {"CPU": 1.0}]
    strategy = strategy_of(bundles)
    autoscaler = placement_group_cluster_autoscaler.PlacementGroupClusterAutoscaler("a", strategy, strategy)
    autoscaler.try_trigger_scaling()
    autoscaler.on_executor_shutdown()
    assert autoscaler.get_total_resources().cpu == 3


def test_ray_data_still_uses_its_helpers_as_we_replace_them() -> None:
    executor = inspect.getsource(streaming_executor)
    assert "_StatsManager.register_dataset_to_stats_actor(" in executor
    assert "_StatsManager.update_execution_metrics(" in executor
    operator = inspect.getsource(actor_pool_map_operator)
    assert "actor_location_tracker=get_or_create_actor_location_tracker()" in operator
    assert "get_actor_locations(tuple(" in operator
    # Where an actor's location is not known there, Ray Data takes what the actor itself said.
    assert "self._actor_node_id_map_snapshot.get(logical_id) or state.actor_location" in operator


def strategy_of(bundles: list[dict[str, float]]) -> PlacementGroupSchedulingStrategy:
    group = PlacementGroup.empty()
    group.bundle_cache = bundles
    return PlacementGroupSchedulingStrategy(group)
