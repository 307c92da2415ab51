"""The internals of Ray Train that trainer.py replaces are where they were, and the replacements do what they say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.backend import Backend
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision, FailurePolicy
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy, ResizeDecision, ScalingPolicy
from ray.train.v2._internal.execution.worker_group import RayTrainWorker, WorkerGroup
from ray.train.v2.api import data_parallel_trainer
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cnnlib.cluster.connect import find_own_error
from cnnlib.errors import (
    AccessError,
    ClusterError,
    CnnlibError,
    DatasetError,
    DivergedError,
    RestartError,
    StorageError,
)
from cnnlib.training.ray import trainer
from cnnlib.training.ray.backend import MultiWorkerConfig
from cnnlib.training.ray.cleaner import CleanerOfThisCluster
from cnnlib.training.ray.shards import DealRows
from cnnlib.training.ray.trainer import (
    RestartPolicy,
    Trainer,
    WaitForRoom,
    _ControllerInDriver,
    _LocalWorkerGroup,
    _NothingToScale,
    describe_failure,
    raise_plain_errors,
)


@pytest.fixture(params=["", "127.0.0.1:6379"], ids=["local", "cluster"])
def local(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Runs a test once for a local cluster and once for a given one; True for the local one."""
    monkeypatch.setenv("RAY_ADDRESS", request.param)
    return not request.param


def build_trainer() -> Trainer:
    return Trainer(
        60.0,
        lambda: None,
        deal=dict,
        backend_config=MultiWorkerConfig(),
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=1)),
    )


class FakeController:
    """Takes what a controller takes, and runs nothing."""

    handed: ClassVar[dict[str, Any]] = {}

    def __init__(self, **parts: Any) -> None:
        self.handed.update(parts)

    async def run(self) -> None: ...

    def get_result(self) -> Any:
        return SimpleNamespace(error=None)


def parameters(function: Callable[..., Any]) -> list[str]:
    return [
        f"{'**' if each.kind is each.VAR_KEYWORD else ''}{name}"
        for name, each in inspect.signature(function).parameters.items()
    ]


@pytest.mark.parametrize(
    ("owner", "method", "expected"),
    [
        (DataParallelTrainer, "_create_default_callbacks", ["self"]),
        (DataParallelTrainer, "_initialize_and_run_controller", ["self", "**controller_init_kwargs"]),
        (FailurePolicy, "__init__", ["self", "failure_config"]),
        (DefaultFailurePolicy, "make_decision", ["self", "training_failed_error"]),
        (ScalingPolicy, "__init__", ["self", "scaling_config"]),
        (FixedScalingPolicy, "after_controller_start", ["self", "train_run_context"]),
        (FixedScalingPolicy, "_maybe_send_resource_request", ["self"]),
        (FixedScalingPolicy, "_cancel_resource_request", ["self"]),
        (TrainController, "run", ["self"]),
        (TrainController, "get_result", ["self"]),
        (WorkerGroup, "_get_worker_runtime_env", ["custom_runtime_env"]),
        (
            WorkerGroup,
            "_init_train_context_on_workers",
            ["self", "workers", "sync_actor", "train_context_args"],
        ),
        (WorkerGroupCallback, "before_worker_group_start", ["self", "worker_group_context"]),
        (PlacementGroupCleanerCallback, "after_controller_start", ["self", "train_run_context"]),
        (Backend, "on_start", ["self", "worker_group", "backend_config"]),
    ],
    ids=lambda value: getattr(value, "__name__", None) or (value if isinstance(value, str) else ""),
)
def test_method_that_is_replaced_has_the_name_and_parameters_it_had(
    owner: type, method: str, expected: list[str]
) -> None:
    assert parameters(getattr(owner, method)) == expected


def test_replacements_replace_methods_that_exist() -> None:
    for ours in (
        Trainer,
        RestartPolicy,
        _NothingToScale,
        _LocalWorkerGroup,
        _ControllerInDriver,
        CleanerOfThisCluster,
    ):
        (base,) = ours.__bases__
        own = {name for name in vars(ours) if not name.startswith("__")} - {"_abc_impl"}
        assert own
        assert {name for name in own if not hasattr(base, name)} == set()


def test_controller_still_takes_the_policies_by_these_names() -> None:
    assert {"failure_policy", "scaling_policy", "callbacks"} <= set(
        inspect.signature(TrainController.__init__).parameters
    )


def test_decisions_of_the_failure_policy_are_those_we_know() -> None:
    assert {decision.name for decision in FailureDecision} == {"RETRY", "RAISE", "NOOP"}


def test_workers_still_take_their_context_by_these_names() -> None:
    parameters = inspect.signature(RayTrainWorker.init_train_context).parameters
    assert {
        "train_run_context", "distributed_context", "synchronization_actor", "storage_context",
        "worker_callbacks", "controller_actor",
    } <= set(parameters)  # fmt: skip
    required = {name for name, each in parameters.items() if each.default is each.empty} - {"self"}
    assert len(required) == 6, "a parameter came that has no default"


def test_fit_hands_both_policies_to_the_controller(monkeypatch: pytest.MonkeyPatch, local: bool) -> None:
    handed: dict[str, Any] = {}

    def run(self: DataParallelTrainer, **parts: Any) -> Any:
        handed.update(parts)
        return SimpleNamespace(error=None)

    monkeypatch.setattr(DataParallelTrainer, "_initialize_and_run_controller", run)
    monkeypatch.setattr(trainer, "_ControllerInDriver", FakeController)
    monkeypatch.setattr(FakeController, "handed", handed)
    monkeypatch.setattr(data_parallel_trainer, "ObjectRefWrapper", lambda function: function)
    build_trainer().fit()
    assert type(handed["failure_policy"]) is RestartPolicy
    assert type(handed["scaling_policy"]) is (_NothingToScale if local else FixedScalingPolicy)


def test_nobody_watches_for_the_drivers_death_on_a_cluster_of_our_own(local: bool) -> None:
    callbacks = build_trainer()._create_default_callbacks()
    all_of_rays = DataParallelTrainer._create_default_callbacks(build_trainer())
    cleaners = [each for each in callbacks if isinstance(each, PlacementGroupCleanerCallback)]
    assert [type(each) for each in cleaners] == ([] if local else [CleanerOfThisCluster])
    assert not [each for each in callbacks if isinstance(each, DatasetsCallback)]
    own = [each for each in callbacks if isinstance(each, WaitForRoom)]
    assert len(own) == (0 if local else 1)
    assert isinstance(callbacks[-1], DealRows)
    assert len(callbacks) - 1 - len(own) == len(all_of_rays) - (2 if local else 1)


def test_workers_that_find_no_room_in_time_end_the_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    @contextmanager
    def no_room(*arguments: Any) -> Iterator[None]:
        asked.append(arguments)
        raise ClusterError("no room")
        yield

    monkeypatch.setattr(trainer, "hold", no_room)
    context = SimpleNamespace(num_workers=2, resources_per_worker={"CPU": 3, "GPU": 1})
    with pytest.raises(ControllerError) as raised:
        WaitForRoom(60.0).before_worker_group_start(context)
    assert asked == [([{"CPU": 3, "GPU": 1}] * 2, "2 workers of 3 CPU and 1 GPU each", 60.0)]
    policy = RestartPolicy(FailureConfig(max_failures=5))
    assert policy.make_decision(raised.value) is FailureDecision.RAISE
    assert type(find_own_error(raised.value)) is ClusterError


def test_error_of_ours_ends_the_run_at_once() -> None:
    policy = RestartPolicy(FailureConfig(max_failures=5))
    own = RayTaskError("read", "trace", DatasetError("bad shard"), proctitle="p", pid=1, ip="127.0.0.1")
    assert policy.make_decision(WorkerGroupError("failed", {0: own})) is FailureDecision.RAISE
    assert policy.make_decision(WorkerGroupError("failed", {1: DatasetError("bad")})) is FailureDecision.RAISE
    assert (
        policy.make_decision(WorkerGroupError("failed", {1: DivergedError("NaN")})) is FailureDecision.RAISE
    )


@pytest.mark.parametrize("error", [StorageError("S3 is away"), AccessError("the token has expired")])
def test_storage_that_fails_restarts_the_workers(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    policy = RestartPolicy(FailureConfig(max_failures=1))
    failed = WorkerGroupError("failed", {1: error, 0: RuntimeError("a peer is gone")})
    assert policy.make_decision(failed) is FailureDecision.RETRY
    assert policy.make_decision(failed) is FailureDecision.RAISE
    first, second = capfd.readouterr().err.splitlines()[-2:]
    assert f"worker 1 failed: {error}; all workers start again from the last checkpoint" in first
    assert f"worker 1 failed: {error}; no restart is left" in second


def test_a_collective_that_tensorflow_ends_means_that_another_worker_is_lost() -> None:
    text = (
        "RuntimeError: DeadlineExceededError: Graph execution error:\nDetected at node while/adam/CollectiveReduceV2\n"
        "Collective ops is aborted by: Deadline Exceeded\nRPC: /tensorflow.CoordinationService/Heartbeat\n"
        "\t [[{{node while/adam/CollectiveReduceV2}}]] [Op:__inference_train_call_1101]"
    )
    failed = WorkerGroupError("failed", {1: RuntimeError(text)})
    expected = "worker 1 failed: another worker is gone or does not answer (Deadline Exceeded)"
    assert describe_failure(failed) == expected


def test_failures_count_from_the_last_progress() -> None:
    steps: list[int | CnnlibError] = [0, 0, 50, 50, 50, 60, StorageError("S3 is away"), 60]
    assert {"_worker_group_failures", "_controller_failures"} <= vars(
        DefaultFailurePolicy(FailureConfig())
    ).keys()

    def find_progress() -> int:
        step = steps.pop(0)
        if isinstance(step, CnnlibError):
            raise step
        return step

    policy = RestartPolicy(FailureConfig(max_failures=2), find_progress)
    failed = WorkerGroupError("failed", {0: RuntimeError("a fault")})
    decisions = [policy.make_decision(failed) for _ in range(8)]
    retry, fail = FailureDecision.RETRY, FailureDecision.RAISE
    #                    0      0      50     50     50    60     ?      60
    assert decisions == [retry, retry, retry, retry, fail, retry, retry, fail]


def test_a_worker_that_died_is_named_in_one_sentence() -> None:
    died = RayActorError(error_msg="The worker was killed.\nIts memory ran out.")
    failed = WorkerGroupError("failed", {0: RuntimeError("a peer is gone"), 1: died})
    assert describe_failure(failed) == "worker 1 failed: its process ended: The worker was killed."


def test_error_of_tensorflow_reaches_the_driver_as_one_it_can_read_without_tensorflow() -> None:
    class UnavailableError(Exception):
        __module__ = "tensorflow.python.framework.errors_impl"

    def fail() -> None:
        raise UnavailableError("a peer is gone")

    with pytest.raises(RuntimeError, match=r"^UnavailableError: a peer is gone$") as raised:
        raise_plain_errors(fail)
    assert type(raised.value) is RuntimeError
    assert isinstance(raised.value.__cause__, UnavailableError), "the worker's log has the whole story"


def test_every_other_error_leaves_a_worker_as_it_is() -> None:
    error = DatasetError("bad shard")

    def fail() -> None:
        raise error

    with pytest.raises(DatasetError) as raised:
        raise_plain_errors(fail)
    assert raised.value is error
    raise_plain_errors(lambda: None)


def test_a_restart_on_purpose_is_no_failure() -> None:
    policy = RestartPolicy(FailureConfig(max_failures=0))
    failed = WorkerGroupError("failed", {0: RestartError("there is room"), 1: RuntimeError("a peer is gone")})
    assert [policy.make_decision(failed) for _ in range(5)] == [FailureDecision.RETRY] * 5
    died = WorkerGroupError("died", {0: OSError("gone")})
    assert policy.make_decision(died) is FailureDecision.RAISE


def test_after_a_rollback_failures_count_from_the_progress_since_then() -> None:
    #        fault  rollback to 20  fault at 30: progress, then two without
    steps = [100, 20, 30, 30, 30]
    policy = RestartPolicy(FailureConfig(max_failures=2), lambda: steps.pop(0))
    fault = WorkerGroupError("failed", {0: RuntimeError("a fault")})
    back = WorkerGroupError("failed", {0: RestartError("rolled back")})
    decisions = [policy.make_decision(each) for each in (fault, back, fault, fault, fault)]
    assert decisions == [FailureDecision.RETRY] * 4 + [FailureDecision.RAISE]


def test_any_other_error_restarts_the_workers_as_often_as_was_asked_for() -> None:
    policy = RestartPolicy(FailureConfig(max_failures=2))
    decisions = [policy.make_decision(WorkerGroupError("died", {0: OSError("gone")})) for _ in range(3)]
    assert decisions == [FailureDecision.RETRY, FailureDecision.RETRY, FailureDecision.RAISE]


def test_policy_of_our_own_cluster_asks_no_autoscaler() -> None:
    policy = _NothingToScale(ScalingConfig(num_workers=3, resources_per_worker={"CPU": 2}))
    policy.after_controller_start(SimpleNamespace(run_id="run"))
    decision = policy.make_decision_for_non_running_worker_group()
    assert decision == ResizeDecision(num_workers=3, resources_per_worker={"CPU": 2})
    assert type(policy.make_decision_for_running_worker_group(None, None)).__name__ == "NoopDecision"
    policy.before_controller_abort()
    assert policy._coordinator_client is None


def test_rays_own_policy_would_ask_one() -> None:
    # When this fails, _NothingToScale may go.
    policy = FixedScalingPolicy(ScalingConfig(num_workers=3))
    with pytest.raises(AssertionError):
        policy.make_decision_for_non_running_worker_group()
