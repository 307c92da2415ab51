"""Ray Train's data-parallel trainer, with the few of its parts replaced that do not fit these runs.

Ray has no public switch for them, so this file leans on internals of the Ray version that pyproject.toml pins; a
test fails when they move. What differs:

- An error of ours (bad data, a model that does not fit) ends the run at once. Ray would restart the workers
  `max_failures` times to meet it again.
- No actor deals Ray Datasets to the workers, which read their own rows.
- On a cluster of our own on this machine, nothing asks an autoscaler that is not there (5 to 10 s of timeouts),
  and no actor watches for the driver's death, with which that cluster dies anyway (it would also write a
  warning per second, for want of a dashboard to ask).
- There the controller runs in the driver, not in an actor, which is a process that takes seconds to start; and
  workers take the environment of this process, as all of that cluster does, rather than one of their own, so
  that they get processes that Ray has started already.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cnnlib.cluster.connect import find_own_error
from cnnlib.cluster.local import in_local_mode


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """`DataParallelTrainer` with the differences this file's docstring lists."""

    def _create_default_callbacks(self) -> list[Any]:
        needless: tuple[type, ...] = (DatasetsCallback,)
        if in_local_mode():
            needless += (PlacementGroupCleanerCallback,)
        return [each for each in super()._create_default_callbacks() if not isinstance(each, needless)]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["failure_policy"] = _OwnErrorsEndTheRun(self.run_config.failure_config)
        if not in_local_mode():
            return super()._initialize_and_run_controller(**parts)
        parts["scaling_policy"] = _NothingToScale(self.scaling_config)
        controller = _ControllerHere(**parts)
        asyncio.run(controller.run())
        return controller.get_result()


class _WorkersHere(WorkerGroup):  # type: ignore[misc]
    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> dict[str, Any]:
        del custom_runtime_env
        return {}

    def _init_train_context_on_workers(
        self, workers: list[Any], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        own = {
            "train_run_context": self._train_run_context,
            "synchronization_actor": sync_actor,
            "storage_context": self._storage_context,
            "worker_callbacks": self._worker_callbacks_to_propagate,
            "controller_actor": None,  # there is none; only Ray's own checkpoints would ask for it
        }
        started = []
        for rank, worker in enumerate(workers):
            of_rank = {name: values[rank] for name, values in train_context_args.items()}
            started.append(
                worker.actor.init_train_context.remote(
                    distributed_context=worker.distributed_context, **own, **of_rank
                )
            )
        ray.get(started)


class _ControllerHere(TrainController):  # type: ignore[misc]
    worker_group_cls = _WorkersHere


class _OwnErrorsEndTheRun(DefaultFailurePolicy):  # type: ignore[misc]
    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        if find_own_error(training_failed_error) is not None:
            return FailureDecision.RAISE
        return super().make_decision(training_failed_error)


class _NothingToScale(FixedScalingPolicy):  # type: ignore[misc]
    def after_controller_start(self, train_run_context: Any) -> None:
        del train_run_context

    def _maybe_send_resource_request(self) -> None:
        pass

    def _cancel_resource_request(self) -> None:
        pass
