"""The internals of Ray Data that this project replaces are still where they were."""

from __future__ import annotations

import functools
import inspect
import logging
from types import SimpleNamespace

import pytest
from ray.data import DataContext
from ray.data._internal import progress
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.operators.map_operator import MapOperator
from ray.util.placement_group import PlacementGroup

from cnnlib.evaluation.ray_data import inside, quiet_ray_data

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
