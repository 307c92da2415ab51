"""Changes internals of Ray Data 2.60: no false errors, no idle helpers. A test fails when these internals move.

Ray Data passes two arguments to each of its actors as references to the object store. Ray's core then logs an error for
every actor pool whose actors may restart ("Actor with class name … has constructor arguments in the object store and
max_restarts > 0", https://github.com/ray-project/ray/issues/53727), although Ray Data keeps both references alive.
Arguments that are passed by value cause no such line.

Every execution starts three actors that keep statistics for the dashboard, ask an autoscaler for machines, and note
where actors run. In a Ray of our own there is nobody to serve, and on two cores their processes delay the predictors by
two seconds.
"""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ray.data import DataContext
from ray.data._internal.cluster_autoscaler import placement_group_cluster_autoscaler
from ray.data._internal.execution.operators import actor_pool_map_operator
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.stats import _StatsManager
from ray.util.annotations import RayDeprecationWarning
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cnnlib.cluster.local import in_local_mode

RESTARTS = {"max_restarts": 2, "max_task_retries": 2}
"""How often a predictor that was killed starts again, and how often it may be killed while it scores one shard.
Ray Data's own numbers are infinite: a predictor that is too large for its machine would be killed for ever."""
_STARTS = 2  # that may fail in a row, because the process was killed


def quiet_ray_data() -> None:
    """Stops Ray Data, in this process, from logging that false error and a note that its progress bars are disabled.

    Also survives a predictor that is killed while it starts, up to twice in a row.
    """
    ActorPoolMapOperator._data_context_ref = property(lambda operator: operator.data_context)
    ActorPoolMapOperator._map_transformer_ref = property(lambda operator: operator._map_transformer)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    # The evaluation has a progress bar of its own: see progress.py.
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = _STARTS
    if in_local_mode():
        _start_no_helpers()


class Unheard:
    """Stands for the handle of an actor that is not started: every call of a method is dropped."""

    def __getattr__(self, name: str) -> Unheard:
        if name.startswith("__"):  # what pickle and copy look for
            raise AttributeError(name)
        return self

    def remote(self, *_: object, **__: object) -> None:
        """Drops a call."""


class _NoCoordinator:
    """Stands for what asks an autoscaler for machines."""

    def __init__(self, requester_id: str) -> None: ...

    def request_resources(self, **_: object) -> None: ...

    def cancel_request(self) -> None: ...


def _start_no_helpers() -> None:
    """Lets executions of Ray Data in this process start no actor but those that work."""
    _StatsManager.gen_dataset_id_from_stats_actor = staticmethod(lambda: uuid.uuid4().hex)
    for name in ("register_dataset_to_stats_actor", "update_execution_metrics", "update_iteration_metrics"):
        setattr(_StatsManager, name, staticmethod(lambda *_, **__: None))
    placement_group_cluster_autoscaler.DefaultAutoscalingCoordinator = _NoCoordinator
    actor_pool_map_operator.get_or_create_actor_location_tracker = Unheard
    actor_pool_map_operator.get_actor_locations = (
        lambda _: {}
    )  # then Ray Data takes what the actor said itself


@contextmanager
def inside(group: PlacementGroup) -> Iterator[None]:
    """Lets all tasks and actors of the Ray Datasets that are built and run in this block use the group's resources.

    Otherwise they ask for resources one after the other: two evaluations on a small cluster would each hold a
    predictor, and wait for a CPU to read.
    """
    context = DataContext.get_current()
    strategy = PlacementGroupSchedulingStrategy(group)
    names = ("scheduling_strategy", "scheduling_strategy_large_args")
    before = {name: getattr(context, name) for name in names}
    with warnings.catch_warnings():  # deprecated in Ray 2.60, which has no other way for the tasks that read
        warnings.simplefilter("ignore", RayDeprecationWarning)
        try:
            for name in names:
                setattr(context, name, strategy)
            yield
        finally:
            for name, value in before.items():
                setattr(context, name, value)
