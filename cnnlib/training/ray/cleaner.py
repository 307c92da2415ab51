"""Launches Ray Train's cleaner, which frees the workers' resources after the training's controller has died.

The cleaner is an actor that asks the dashboard whether the controller lives. Ray tells it no address, so it takes the
one that the last `ray start` on the head's machine has noted there. If that was another cluster, whose dashboard wants
no token, it hears that there is no such controller, and takes the resources from a training that lives.
"""

from __future__ import annotations

import ray
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.context import TrainRunContext
from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner

from cnnlib.cluster.local import ADDRESS_VARIABLE


class CleanerOfThisCluster(PlacementGroupCleanerCallback):  # type: ignore[misc]
    """Launches the same actor as Ray's callback, with the address of its own cluster."""

    def after_controller_start(self, train_run_context: TrainRunContext) -> None:
        """Launches the actor. Called in the process of the controller."""
        del train_run_context
        here = ray.get_runtime_context()
        self._controller_actor_id = here.get_actor_id()
        actor = ray.remote(num_cpus=0)(PlacementGroupCleaner).options(
            lifetime="detached",
            get_if_exists=False,
            resources={HEAD_NODE_RESOURCE_NAME: 0.001},
            scheduling_strategy="DEFAULT",
            runtime_env={"env_vars": {ADDRESS_VARIABLE: here.gcs_address}},
        )
        self._cleaner = actor.remote(
            controller_actor_id=self._controller_actor_id,
            check_interval_s=self._check_interval_s,
            get_actor_timeout_s=self._get_actor_timeout_s,
            stop_timeout=self._stop_timeout,
        )
        self._cleaner.start_monitoring.remote()
