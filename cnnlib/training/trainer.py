"""Ray Train's data-parallel trainer, with the few of its parts replaced that do not fit these runs.

Ray has no public switch for them, so this file leans on internals of the Ray version that pyproject.toml pins; a
test fails when they move. What differs:

- An error of ours (bad data, a model that does not fit) ends the run at once. Ray would restart the workers
  `max_failures` times to meet it again.
- On a cluster of our own on this machine, nothing asks an autoscaler that is not there (5 to 10 s of timeouts),
  and no actor watches for the driver's death, with which that cluster dies anyway (it would also write a
  warning per second, for want of a dashboard to ask).
"""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cnnlib.cluster import find_own_error
from cnnlib.local_ray import in_local_mode


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """`DataParallelTrainer` with the differences this file's docstring lists."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        if in_local_mode():
            return [each for each in callbacks if not isinstance(each, PlacementGroupCleanerCallback)]
        return callbacks  # type: ignore[no-any-return]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["failure_policy"] = _OwnErrorsEndTheRun(self.run_config.failure_config)
        if in_local_mode():
            parts["scaling_policy"] = _NothingToScale(self.scaling_config)
        return super()._initialize_and_run_controller(**parts)


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
