"""Runs the workers with Ray Train's data-parallel trainer, a few parts of which are replaced.

Ray has no public switch for what is replaced, so this file uses internals of the Ray version that pyproject.toml pins.
tests/unit/training/ray/test_trainer.py fails when one of them moves. The differences:

- Bad input (data, a model that does not fit) ends the run at once. Ray would restart the workers `max_failures` times,
  and hit the same error each time.
- On a cluster that others use, or that has lost a machine, the workers wait for room as a whole, say what for, and give
  up after a stated time. Ray would wait for ever, and log a traceback every five minutes.
- The number of workers follows the room that the cluster has, if several are possible: see elastic.py.
- No actor distributes Ray Datasets to the workers: shards.py deals each worker exactly its rows, or what reads them.
- The actor that watches for the death of the driver asks its own cluster, not another one on its machine: cleaner.py.
- On a cluster that this job started on this machine:
  - No request goes to an autoscaler, because there is none. A request would time out after 5 to 10 s.
  - No actor watches for the death of the driver, with which that cluster ends anyway. Without a dashboard to ask, the
    actor would also log a warning per second.
  - No actor looks for announcements that this machine will be taken away.
  - The controller runs in the driver and not in an actor, whose process takes seconds to start.
  - Workers take the environment of this process, as everything on that cluster does, so that Ray can give them
    processes that it has already started.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.train import ControllerError, FailureConfig, Result, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import (
    ENABLE_PREEMPTION_WATCHER_ENV_VAR,
    WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR,
)
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import Worker, WorkerGroup, WorkerGroupContext
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cnnlib.cluster.connect import find_own_error
from cnnlib.cluster.local import in_local_mode
from cnnlib.cluster.reserve import hold
from cnnlib.errors import (
    AccessError,
    ClusterError,
    CnnlibError,
    DivergedError,
    InputError,
    RestartError,
    RowCountError,
    TrainingError,
)
from cnnlib.log import log_event
from cnnlib.training.ray.backend import MultiWorkerConfig
from cnnlib.training.ray.cleaner import CleanerOfThisCluster
from cnnlib.training.ray.controller import look, outlive_controller
from cnnlib.training.ray.elastic import GRACE_S, ElasticPolicy
from cnnlib.training.ray.ending import ends_with_a_resume_point
from cnnlib.training.ray.shards import Deal, DealRows

_ABORTED = "Collective ops is aborted by: "


def run_workers(
    work: Callable[[], None],
    *,
    deal: Deal,
    workers: Sequence[int],
    spread: bool = False,
    cpus_per_worker: int,
    gpus_per_worker: int,
    max_failures: int,
    wait_when_busy_s: float,
    find_progress: Callable[[], int] = lambda: 0,
    hang_timeout_s: float = 0.0,
) -> None:
    """Runs `work` in every worker, under one TF_CONFIG, until all of them return.

    Args:
        work: the function of one worker. It finds its rank with `session.join_session`.
        deal: deals the rows of all workers.
        workers: the numbers of workers that are possible, in ascending order; more than one on a given cluster only.
        spread: puts each worker on a machine of its own, as far as the cluster has them; else as few machines as can.
        max_failures: how often all workers are restarted after one, or their controller, fails, without progress in
            between.
        find_progress: returns the step from which a restart would go on.
        hang_timeout_s: seconds without an answer after which a worker counts as gone; 0: Ray's own 600.
        wait_when_busy_s: the most seconds that the workers wait for room before each start.

    Raises:
        ClusterError: there was no room for them in time.
        InputError: the error of this project that a worker raised.
        TrainingError: the workers failed more often than `max_failures`.
    """
    if hang_timeout_s:
        os.environ.setdefault(WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR, f"{hang_timeout_s:g}")
    if in_local_mode():
        os.environ.setdefault(ENABLE_PREEMPTION_WATCHER_ENV_VAR, "0")
    resources = {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    # Ray writes its own state into its storage path; this project's checkpoints and history do not go there.
    with tempfile.TemporaryDirectory() as scratch:

        def train() -> None:
            Trainer(
                wait_when_busy_s,
                lambda: raise_plain_errors(work),
                deal=deal,
                counts=workers,
                find_progress=find_progress,
                backend_config=MultiWorkerConfig(),
                scaling_config=ScalingConfig(
                    num_workers=workers[-1],
                    use_gpu=gpus_per_worker > 0,
                    resources_per_worker=resources,
                    placement_strategy="SPREAD" if spread else "PACK",
                ),
                run_config=RunConfig(
                    storage_path=scratch, name="ray", failure_config=FailureConfig(max_failures=max_failures)
                ),
            ).fit()

        try:
            with ends_with_a_resume_point():
                outlive_controller(train, max_failures, find_progress)
        except TrainingFailedError as err:
            own = find_own_error(err)
            if own is not None and (happens_again(own) or not isinstance(own, InputError)):
                raise own from err
            reason = str(own) if own is not None else describe_failure(err)
            raise TrainingError(
                f"Training failed: {reason}. Finished epochs are kept: the same command continues the run."
            ) from err


def raise_plain_errors(work: Callable[[], None]) -> None:
    """Runs the function of a worker; an error of TensorFlow or Keras leaves it as a RuntimeError with the same text.

    When a worker dies, a collective fails in the others, with an error of TensorFlow. The driver, which receives it,
    would have to import TensorFlow to read it: that takes 5 to 15 s, in which it restarts nobody.
    """
    try:
        work()
    except Exception as err:
        if type(err).__module__.partition(".")[0] not in ("tensorflow", "keras"):
            raise
        raise RuntimeError(f"{type(err).__name__}: {err}") from err


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """`DataParallelTrainer` with the differences that this file's docstring lists."""

    def __init__(
        self,
        wait_when_busy_s: float,
        *args: object,
        deal: Deal,
        counts: Sequence[int] = (),
        find_progress: Callable[[], int] = lambda: 0,
        **parts: object,
    ) -> None:
        super().__init__(*args, **parts)
        self._find_progress = find_progress
        self._wait_when_busy_s = wait_when_busy_s
        self._deal = deal
        self._counts = counts

    def _create_default_callbacks(self) -> list[object]:
        replaced = (DatasetsCallback, PlacementGroupCleanerCallback)
        callbacks = [each for each in super()._create_default_callbacks() if not isinstance(each, replaced)]
        if not in_local_mode():
            callbacks.append(CleanerOfThisCluster())
            callbacks.append(WaitForRoom(self._wait_when_busy_s, self._counts[0] if self._counts else None))
        # The last, because nothing is read before there is room.
        return [*callbacks, DealRows(self._deal)]

    def _initialize_and_run_controller(self, **parts: object) -> Result:
        parts["failure_policy"] = RestartPolicy(self.run_config.failure_config, self._find_progress)
        if not in_local_mode():
            if len(self._counts) > 1:
                parts["scaling_policy"] = ElasticPolicy(self.scaling_config, self._counts)
            return super()._initialize_and_run_controller(**parts)
        parts["scaling_policy"] = _NothingToScale(self.scaling_config)
        controller = _ControllerInDriver(**parts)
        asyncio.run(controller.run())
        return controller.get_result()


class WaitForRoom(WorkerGroupCallback):  # type: ignore[misc]
    """Waits, before the workers start or restart, until the cluster has room for all of them."""

    def __init__(self, wait_s: float, fewest: int | None = None) -> None:
        """Takes the most seconds to wait.

        Args:
            fewest: the fewest workers that are possible. For more than these it waits a moment only, and then the
                number is chosen anew. None: the number is fixed.
        """
        self._wait_s = wait_s
        self._fewest = fewest

    def before_worker_group_start(self, worker_group_context: WorkerGroupContext) -> None:
        """Returns once there is room: the workers take it at once."""
        bundles = [worker_group_context.resources_per_worker] * worker_group_context.num_workers
        each = " and ".join(f"{amount:g} {name}" for name, amount in bundles[0].items())
        can_be_fewer = self._fewest is not None and len(bundles) > self._fewest
        try:
            with hold(
                bundles, f"{len(bundles)} workers of {each} each", GRACE_S if can_be_fewer else self._wait_s
            ):
                pass
        except ClusterError as err:
            if can_be_fewer:
                gone = RestartError(f"the room for {len(bundles)} workers is gone")
                raise ControllerError(gone) from err
            raise ControllerError(err) from err  # of any other error, Ray logs a traceback


class _LocalWorkerGroup(WorkerGroup):  # type: ignore[misc]
    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: object) -> dict[str, object]:
        del custom_runtime_env
        return {}

    def _init_train_context_on_workers(
        self,
        workers: Sequence[Worker],
        sync_actor: ActorHandle,
        train_context_args: Mapping[str, Sequence[object]],
    ) -> None:
        shared = {
            "train_run_context": self._train_run_context,
            "synchronization_actor": sync_actor,
            "storage_context": self._storage_context,
            "worker_callbacks": self._worker_callbacks_to_propagate,
            # There is no such actor. Only Ray's own checkpoints, which this project does not use, would call it.
            "controller_actor": None,
        }
        started = []
        for rank, worker in enumerate(workers):
            of_rank = {name: values[rank] for name, values in train_context_args.items()}
            started.append(
                worker.actor.init_train_context.remote(
                    distributed_context=worker.distributed_context, **shared, **of_rank
                )
            )
        ray.get(started)


class _ControllerInDriver(TrainController):  # type: ignore[misc]
    worker_group_cls = _LocalWorkerGroup


class RestartPolicy(DefaultFailurePolicy):  # type: ignore[misc]
    """Ends the run for what would happen again, restarts the workers for everything else, and says so in one line.

    Failures count from the last progress: the third fault of a week ends no run.
    """

    def __init__(self, failure_config: FailureConfig, find_progress: Callable[[], int] = lambda: 0) -> None:
        super().__init__(failure_config)
        self._find_progress = find_progress
        self._progress = 0

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        own = find_own_error(training_failed_error)
        if own is not None and happens_again(own):
            return FailureDecision.RAISE
        if isinstance(own, RestartError):
            log_event("workers", note=f"{own}; all workers start again")
            # A rollback takes steps back: what is done again after it is progress, too.
            self._progress = min(self._progress, look(self._find_progress))
            return FailureDecision.RETRY
        if (progress := look(self._find_progress)) > self._progress:
            self._progress = progress
            self._worker_group_failures = self._controller_failures = 0
        decision = super().make_decision(training_failed_error)
        restarts = decision == FailureDecision.RETRY
        next_step = "all workers start again from the last checkpoint" if restarts else "no restart is left"
        log_event("workers", note=f"{describe_failure(training_failed_error)}; {next_step}")
        return decision


def happens_again(err: CnnlibError) -> bool:
    """Returns whether an error of a worker would be the same after a restart.

    Bad input stays bad, a shard keeps its rows, the same steps diverge again, and who has waited for room in vain has
    waited long enough. Storage may answer again, and credentials may be renewed.
    """
    return isinstance(err, InputError | ClusterError | DivergedError | RowCountError) and not isinstance(
        err, AccessError
    )


def describe_failure(err: TrainingFailedError) -> str:
    """Returns in one line which worker failed, and why.

    When a worker dies, the others lose their connections to it. So the worker whose process ended is the one to name.
    """
    failures = dict(getattr(err, "worker_failures", {}))
    died = [rank for rank, failure in failures.items() if isinstance(failure, RayActorError)]
    own = [rank for rank, failure in failures.items() if find_own_error(failure) is not None]
    for rank in (*own, *died, *sorted(failures)):
        failure = failures[rank]
        lines = _lines(find_own_error(failure) or failure)
        # A traceback ends with its cause; the text about a process that ended begins with it.
        reason = f"its process ended: {lines[0]}" if rank in died else _find_lost_worker(lines) or lines[-1]
        return f"worker {rank} failed: {reason}"
    return f"the workers failed: {_lines(err)[0]}"


def _find_lost_worker(lines: Sequence[str]) -> str | None:
    """Returns what it means that TensorFlow ended a collective; None for any other error."""
    aborted = (line.partition(_ABORTED)[2] for line in lines if line.startswith(_ABORTED))
    why = next(aborted, None)
    return None if why is None else f"another worker is gone or does not answer ({why})"


def _lines(err: BaseException) -> list[str]:
    return [line.strip() for line in str(err).splitlines() if line.strip()] or [type(err).__name__]


class _NothingToScale(FixedScalingPolicy):  # type: ignore[misc]
    def after_controller_start(self, train_run_context: object) -> None:
        del train_run_context

    def _maybe_send_resource_request(self) -> None:
        pass

    def _cancel_resource_request(self) -> None:
        pass
