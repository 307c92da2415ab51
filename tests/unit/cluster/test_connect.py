"""Tests resource checks before a job starts, the choice of the cluster, and errors from workers. No cluster runs."""

from __future__ import annotations

import itertools
import os
import pickle
from contextlib import nullcontext
from typing import Any

import pytest
import ray
from ray._private import ray_logging
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError
from ray.train import ControllerError, WorkerGroupError

from cnnlib.cluster import connect as cluster
from cnnlib.cluster.connect import ResourceRequest, find_own_error
from cnnlib.errors import ClusterError, CnnlibError, DatasetError, ModelError, ResourceError


def request(count: int, cpus: int = 1, gpus: int = 0, readers: int = 1) -> ResourceRequest:
    return ResourceRequest(what="workers", count=count, cpus=cpus, gpus=gpus, readers=readers)


def set_nodes(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    """Sets the machines of the cluster; `alive: 0` is a dead machine."""
    listed = [{"Alive": node.pop("alive", 1) == 1, "Resources": node} for node in map(dict, nodes)]
    monkeypatch.setattr(ray, "nodes", lambda: listed)


def as_task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("read", "a traceback", cause, proctitle="ray::read", pid=1, ip="127.0.0.1")


# Errors of this project that Ray wrapped on their way from a worker.


def test_own_error_is_found_as_it_is() -> None:
    own = DatasetError("bad shard")
    assert find_own_error(own) is own


def test_own_error_is_found_behind_a_task() -> None:
    own = DatasetError("bad shard")
    assert find_own_error(as_task_error(own)) is own
    dual = as_task_error(own).as_instanceof_cause()
    assert isinstance(dual, DatasetError)
    assert find_own_error(dual) is own


def test_own_error_is_found_after_both_were_pickled() -> None:
    found = find_own_error(pickle.loads(pickle.dumps(as_task_error(ModelError("does not fit")))))
    assert type(found) is ModelError
    assert str(found) == "does not fit"


def test_own_error_is_found_behind_the_failure_of_any_worker() -> None:
    own = DatasetError("bad shard")
    failures = {0: RuntimeError("connection reset"), 1: as_task_error(own)}
    assert find_own_error(WorkerGroupError("two workers failed", failures)) is own


def test_own_error_is_found_behind_the_controller() -> None:
    own = DatasetError("bad manifest")
    assert find_own_error(ControllerError(own)) is own


def test_own_error_is_found_as_a_cause_or_a_context() -> None:
    own = ModelError("does not fit")
    try:
        try:
            raise own
        except ModelError as err:
            raise ValueError("wrapped") from err
    except ValueError as err:
        caused: BaseException = err
    assert find_own_error(caused) is own
    try:
        try:
            raise own
        except ModelError:
            raise ValueError("while handling") from None
    except ValueError as err:
        handled: BaseException = err
    assert find_own_error(handled) is own


def test_error_without_one_of_ours_inside_gives_none() -> None:
    assert find_own_error(as_task_error(ValueError("theirs"))) is None
    assert find_own_error(WorkerGroupError("failed", {0: RuntimeError("theirs")})) is None


def test_errors_that_point_at_each_other_end_the_search() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert find_own_error(one) is None


def test_class_that_ray_derived_from_ours_is_not_taken_for_ours() -> None:
    class DerivedError(CnnlibError):
        pass

    assert find_own_error(DerivedError("made elsewhere")) is None


# What is said of a process that was killed.


def test_process_that_was_killed_is_told_from_a_bug() -> None:
    def explain(err: BaseException) -> BaseException:
        return cluster.explain_death(err, "A predictor", "Try less.")

    own, bug = ModelError("does not fit"), ValueError("theirs")
    assert explain(as_task_error(own)) is own
    assert explain(bug) is bug
    died = explain(as_task_error(ActorDiedError()))
    assert type(died) is ClusterError
    assert str(died) == (
        "A predictor was killed again and again, most often because memory ran out "
        "(The actor died unexpectedly before finishing this task). Try less."
    )
    for err, expected in ((own, own), (bug, bug), (as_task_error(ActorDiedError()), died)):
        with pytest.raises(type(expected)) as raised, cluster.explaining_deaths("A predictor", "Try less."):
            raise err
        assert str(raised.value) == str(expected)
    memory = explain(as_task_error(OutOfMemoryError("a table of all processes")))
    assert str(memory) == "A predictor was killed again and again, its machine ran out of memory. Try less."


# Whether a request fits. One CPU must stay free for the tasks that read, unless none of them needs one.


@pytest.mark.parametrize(
    ("nodes", "requested", "fits"),
    [
        ([{"CPU": 3}], request(2), True),
        ([{"CPU": 2}], request(2), False),
        ([{"CPU": 2}], request(2, readers=0), True),
        ([{"CPU": 1}], request(2, readers=0), False),
        ([{"CPU": 4}, {"CPU": 4}], request(2, cpus=3), True),
        ([{"CPU": 4}, {"CPU": 4}], request(2, cpus=4), False),
        ([{"CPU": 4}, {"CPU": 4}, {"CPU": 1}], request(2, cpus=4), True),
        ([{"CPU": 4}, {"CPU": 4}], request(1, cpus=6), False),
        ([{"CPU": 7}], request(2, cpus=3), True),
        ([{"CPU": 8, "GPU": 1}], request(2, gpus=1), False),
        ([{"CPU": 8, "GPU": 2}], request(2, gpus=1), True),
        ([{"CPU": 2, "GPU": 1}, {"CPU": 2, "GPU": 1}], request(2, gpus=1), True),
        ([{"CPU": 64}, {"CPU": 1, "GPU": 8}], request(2, cpus=2, gpus=1), False),
        ([{"CPU": 8, "alive": 0}, {"CPU": 2}], request(2), False),
        ([{"memory": 10}], request(1), False),
        ([], request(1), False),
    ],
    ids=str,
)
def test_request_fits_only_where_every_process_finds_a_machine(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], requested: ResourceRequest, fits: bool
) -> None:
    set_nodes(monkeypatch, *nodes)
    assert cluster._fits(requested) is fits


def test_processes_are_counted_whole_per_machine() -> None:
    assert cluster._processes_on({"CPU": 7}, request(1, cpus=3)) == 2
    assert cluster._processes_on({"CPU": 7, "GPU": 1}, request(1, cpus=3, gpus=1)) == 1
    assert cluster._processes_on({"CPU": 7}, request(1, cpus=3, gpus=1)) == 0
    assert cluster._processes_on({"CPU": 2}, request(1, cpus=3)) == 0


def test_request_that_does_not_fit_fails_at_once_and_says_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_nodes(monkeypatch, {"CPU": 4}, {"CPU": 8, "GPU": 2}, {"CPU": 99, "alive": 0})
    with pytest.raises(ResourceError) as raised:
        cluster._check_request(request(3, cpus=2, gpus=1), wait_s=0)
    assert str(raised.value).startswith(
        "The cluster cannot provide 3 workers of 2 CPU and 1 GPU each, with one CPU left to read the data. "
        "It has 2 machines (4 CPU, 8 CPU and 2 GPU). Request fewer or smaller ones, add machines, or"
    )


def test_request_without_readers_asks_for_no_cpu_more(monkeypatch: pytest.MonkeyPatch) -> None:
    set_nodes(monkeypatch, {"CPU": 2})
    held: list[tuple[object, ...]] = []
    monkeypatch.setattr(cluster, "hold", lambda *arguments: nullcontext(held.append(arguments)))
    with cluster.reserve(request(2, readers=0), 60.0):
        pass
    assert held == [([{"CPU": 1}] * 2, "2 workers of 1 CPU each", 60.0)]
    with pytest.raises(ResourceError, match=r"cannot provide 3 workers of 1 CPU each\. It has 1 machine"):
        cluster._check_request(request(3, readers=0), wait_s=0)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, float]]]:
    """Records the requests to the autoscaler, and removes the waiting time."""
    requested: list[list[dict[str, float]]] = []
    monkeypatch.setattr(cluster, "request_resources", lambda bundles: requested.append(bundles))
    monkeypatch.setattr(cluster.time, "sleep", lambda _: None)
    return requested


def test_a_cluster_that_grows_is_asked_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, requests: list[list[dict[str, float]]]
) -> None:
    sizes = iter([1, 1, 1, 4])
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": next(sizes)}}])
    cluster._check_request(request(2), wait_s=600)
    assert requests == [[{"CPU": 1}, {"CPU": 1}, {"CPU": 1}], []]
    assert next(sizes, None) is None


def test_a_cluster_that_does_not_grow_in_time_fails_and_is_no_longer_asked(
    monkeypatch: pytest.MonkeyPatch, requests: list[list[dict[str, float]]]
) -> None:
    set_nodes(monkeypatch, {"CPU": 1})
    clock = itertools.count(0, 5)
    monkeypatch.setattr(cluster.time, "monotonic", lambda: next(clock))
    with pytest.raises(ResourceError, match=r"It has 1 machine \(1 CPU\) after 20 s\."):
        cluster._check_request(request(2, gpus=1), wait_s=20)
    assert requests == [[{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}, {"CPU": 1}], []]


# The choice of the cluster.


@pytest.fixture
def ray_calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Records the calls of ray.init, by their options, and of ray.shutdown, as {}."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(options))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append({}))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return calls


def test_local_cluster_has_a_cpu_for_readers_and_ends_with_the_job(
    monkeypatch: pytest.MonkeyPatch, ray_calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "num_cores", lambda: 2)
    set_nodes(monkeypatch, {"CPU": 5})
    with cluster.connect(request(4)):
        assert len(ray_calls) == 1
    assert ray_calls[0]["address"] == "local"
    assert ray_calls[0]["num_cpus"] == 5
    assert ray_calls[0]["include_dashboard"] is False
    assert ray_calls[1:] == [{}]
    assert 'note="4 workers of 1 CPU each on 2 cores: the workers share the cores"' in capsys.readouterr().err


def test_lines_that_ray_repeats_have_no_colours(
    monkeypatch: pytest.MonkeyPatch, ray_calls: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(ray_logging, "_color", ray_logging._color)
    set_nodes(monkeypatch, {"CPU": 2})
    with cluster.connect(request(1)):
        state = ray_logging.DedupState(0.0, 3, "a line", {}, {("10.0.0.1", 1)})
        assert state.formatted().startswith("a line [repeated 3x across cluster]")
        assert "\x1b" not in state.formatted()


def test_local_cluster_ends_when_the_job_fails(
    monkeypatch: pytest.MonkeyPatch, ray_calls: list[dict[str, Any]]
) -> None:
    set_nodes(monkeypatch, {"CPU": 2})
    with pytest.raises(DatasetError), cluster.connect(request(1)):
        raise DatasetError("bad shard")
    assert ray_calls[-1] == {}


def test_given_cluster_is_connected_to_and_left(
    monkeypatch: pytest.MonkeyPatch, ray_calls: list[dict[str, Any]]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    set_nodes(monkeypatch, {"CPU": 2})
    with cluster.connect(request(1)):
        assert "num_cpus" not in ray_calls[0]
        assert ray_calls[0].get("address") in (None, "127.0.0.1:6379")
    assert ray_calls[1:] == [{}]


def test_address_without_a_cluster_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ResourceError) as raised, cluster.connect(request(1)):
        pytest.fail("connected to nothing")
    assert str(raised.value).startswith("There is no Ray cluster at RAY_ADDRESS=127.0.0.1:1: nobody answers.")
    assert "unset RAY_ADDRESS" in str(raised.value)


@pytest.mark.parametrize(
    ("cores", "count", "configured", "local", "expected"),
    [
        (8, 2, None, True, 4),
        (8, 3, None, True, 2),
        (2, 4, None, True, 1),
        (8, 2, 7, True, 7),
        (8, 2, None, False, 1),
        (8, 2, 3, False, 3),
    ],
)
def test_cores_are_divided_on_this_machine_and_one_each_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    count: int,
    configured: int | None,
    local: bool,
    expected: int,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "" if local else "127.0.0.1:6379")
    monkeypatch.setattr(cluster, "num_cores", lambda: cores)
    assert cluster.divide_cores(count, configured) == expected


def test_cores_are_those_this_process_may_use() -> None:
    assert 1 <= cluster.num_cores() <= (os.cpu_count() or 1)
    assert str(request(2, cpus=3)) == "2 workers of 3 CPU each"
