"""Connects a job to a Ray cluster: the one at RAY_ADDRESS, or one that it starts on this machine.

Also checks, before any work starts, that the cluster can ever provide the resources that the job requests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import ray
from ray._private import ray_logging
from ray.autoscaler.sdk import request_resources
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.util.placement_group import PlacementGroup

from cnnlib.cluster.local import ADDRESS_VARIABLE, in_local_mode
from cnnlib.cluster.reserve import hold
from cnnlib.cluster.start import start_ray
from cnnlib.cores import num_cores
from cnnlib.errors import ClusterError, CnnlibError, ResourceError
from cnnlib.log import log_event

_READER_CPUS = 1  # for Ray Data's tasks, which would otherwise wait for the workers' CPUs forever
_DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError)
_POLL_S = 2.0
_SETTLE_S = 0.5
"""The time to wait before the end, as Ray's own shutdown at exit does: for the last output of the workers, and for the
answers that Ray's own thread still gets. One that came after the end was a segmentation fault of the driver."""


@dataclass(frozen=True, kw_only=True)
class ResourceRequest:
    """The resources of a job: `count` processes, each of which must fit on one machine.

    Attributes:
        what: names the processes in messages, such as "workers".
        count: number of processes.
        cpus: CPUs of one process.
        gpus: GPUs of one process.
        readers: the fewest tasks that read at the same time, of one CPU each; 0 if nothing is read while the processes
            hold their CPUs, or if it needs no CPU of its own.
    """

    what: str
    count: int
    cpus: int
    gpus: int
    readers: int = _READER_CPUS

    def bundles(self, readers: int | None = None) -> list[dict[str, float]]:
        """Returns the resources of each process, and one CPU for each reader, by default for the fewest."""
        process: dict[str, float] = {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}
        return [process] * self.count + [{"CPU": 1}] * (self.readers if readers is None else readers)

    def __str__(self) -> str:
        gpus = f" and {self.gpus} GPU" if self.gpus else ""
        return f"{self.count} {self.what} of {self.cpus} CPU{gpus} each"


def divide_cores(count: int, cpus: int | None) -> int:
    """Returns the CPUs of each of `count` processes.

    Args:
        cpus: the configured number. None: this machine's cores divided by `count` in local mode, 1 on a cluster.
    """
    if cpus is not None:
        return cpus
    return max(1, num_cores() // count) if in_local_mode() else 1


@contextlib.contextmanager
def connect(request: ResourceRequest, wait_s: float = 0.0) -> Iterator[None]:
    """Connects to the cluster at RAY_ADDRESS, or starts one here, and disconnects or stops it at the end.

    Args:
        request: the resources that the job will request.
        wait_s: seconds to wait for the cluster to grow to the request; 0 does not wait.

    Raises:
        ResourceError: the cluster cannot provide the resources, or there is no cluster at the address.
        ClusterError: a cluster on this machine did not start.
    """
    _drop_colours()
    with _local_cluster(request) if in_local_mode() else _given_cluster():
        _check_request(request, wait_s)
        yield
        time.sleep(_SETTLE_S)


@contextlib.contextmanager
def reserve(
    request: ResourceRequest, wait_s: float, max_readers: int | None = None
) -> Iterator[PlacementGroup]:
    """Holds the resources of a request as a whole, once no other job uses them. Requires a connection.

    Args:
        wait_s: the most seconds to wait for them.
        max_readers: the most tasks that read at the same time, of one CPU each; fewer on a small cluster. None: as few
            as the request says.

    Raises:
        ClusterError: they did not become free in time.
    """
    left = sum(int(node.get("CPU", 0)) for node in _live_nodes()) - request.count * request.cpus
    readers = request.readers if max_readers is None else max(request.readers, min(max_readers, left))
    what = f"{request} and {readers} CPU to read the data" if readers else str(request)
    with hold(request.bundles(readers), what, wait_s) as group:
        yield group


def memory_per_worker(request: ResourceRequest) -> int:
    """Returns the bytes of memory for one process on the machine where the processes get least.

    Assumes that as many processes as fit run on each machine. Requires a connection.
    """
    return _bytes_per_process("memory", request)


def object_store_per_worker(request: ResourceRequest) -> int:
    """Returns the same for the object store of Ray, which is memory that all processes of a machine share."""
    return _bytes_per_process("object_store_memory", request)


def find_own_error(err: BaseException) -> CnnlibError | None:
    """Returns the CnnlibError inside an error that Ray wrapped on its way from a worker; None if there is none."""
    for current in _causes(err):
        # Ray raises an error of a class that it derives from the cause's, in another module: that is not the cause.
        if isinstance(current, CnnlibError) and type(current).__module__ == CnnlibError.__module__:
            return current
    return None


def _causes(err: BaseException) -> Iterator[BaseException]:
    """Yields an error and all errors inside it, each once."""
    seen: set[int] = set()
    pending: list[BaseException] = [err]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__cause__, current.__context__]
        inner += [getattr(current, name, None) for name in ("cause", "controller_failure")]
        inner += list(getattr(current, "worker_failures", {}).values())
        pending += [error for error in inner if isinstance(error, BaseException)]


def explain_death(err: BaseException, what: str, advice: str) -> BaseException:
    """Returns what to raise for an error of Ray's: our own error inside it, or one that says that a process was killed.

    Args:
        what: names the process.
        advice: what to do if its machine ran out of memory.
    """
    own = find_own_error(err)
    if own is not None:
        return own
    death = next((each for each in _causes(err) if isinstance(each, _DEATHS)), None)
    if death is None:
        return err
    memory = isinstance(death, OutOfMemoryError)
    why = (
        "its machine ran out of memory"
        if memory
        else f"most often because memory ran out ({_first_line(death)})"
    )
    return ClusterError(f"{what} was killed again and again, {why}. {advice}")


@contextlib.contextmanager
def explaining_deaths(what: str, advice: str) -> Iterator[None]:
    """Raises what `explain_death` returns in place of an error of Ray's."""
    try:
        yield
    except CnnlibError:
        raise
    except Exception as err:  # Ray has many classes of errors, and derives classes from those of others
        explained = explain_death(err, what, advice)
        if explained is err:
            raise
        raise explained from err


def _first_line(err: BaseException) -> str:
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(err).__name__


def _drop_colours() -> None:
    """Lets Ray write "[repeated 3x across cluster]" without colours; RAY_COLOR_PREFIX does the rest."""
    ray_logging._color = str


@contextlib.contextmanager
def _keeps_sigterm() -> Iterator[None]:
    """Keeps the handler of SIGTERM: Ray installs one in C++ that writes a stack dump before it calls Python's."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _local_cluster(request: ResourceRequest) -> Iterator[None]:
    cores, requested = num_cores(), request.count * request.cpus
    if requested > cores:
        log_event("cluster", note=f"{request} on {cores} cores: the {request.what} share the cores")
    with _keeps_sigterm():
        start_ray(
            lambda: ray.init(
                address="local",
                num_cpus=max(cores, requested + _READER_CPUS),
                include_dashboard=False,
                logging_level=logging.WARNING,
                log_to_driver=True,
            )
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _given_cluster() -> Iterator[None]:
    address = os.environ[ADDRESS_VARIABLE]
    try:
        with _keeps_sigterm():
            ray.init(logging_level=logging.WARNING, log_to_driver=True)
    except (ConnectionError, ValueError, RuntimeError) as err:
        raise ResourceError(
            f"There is no Ray cluster at {ADDRESS_VARIABLE}={address}: {err}. "
            f"Start one (ray start --head), or unset {ADDRESS_VARIABLE} to run on this machine alone."
        ) from err
    try:
        yield
    finally:
        ray.shutdown()


def _bytes_per_process(resource: str, request: ResourceRequest) -> int:
    """Returns the bytes of a resource for one process on the machine where the processes get least."""
    bytes_per_process = [
        node.get(resource, 0) / min(request.count, _processes_on(node, request))
        for node in _live_nodes()
        if _processes_on(node, request)
    ]
    return int(min(bytes_per_process, default=0))


def _check_request(request: ResourceRequest, wait_s: float) -> None:
    if _fits(request):
        return
    if wait_s and _grows_to(request, wait_s):
        return
    waited = f" after {wait_s:g} s" if wait_s else ""
    left = ", with one CPU left to read the data" if request.readers else ""
    raise ResourceError(
        f"The cluster cannot provide {request}{left}. "
        f"It has {_describe_nodes()}{waited}. Request fewer or smaller ones, add machines, or, on a "
        "cluster with an autoscaler, wait for it to grow: --cluster.wait-for-resources-s "
        "(jobs.evaluate: --wait-for-resources-s)."
    )


def _grows_to(request: ResourceRequest, wait_s: float) -> bool:
    """Asks the cluster's autoscaler, if there is one, for the resources and waits; returns whether they came."""
    log_event("cluster", note=f"waiting for {request}", has=_describe_nodes(), at_most_s=wait_s)
    request_resources(bundles=request.bundles())
    deadline = time.monotonic() + wait_s
    try:
        while time.monotonic() < deadline:
            if _fits(request):
                return True
            time.sleep(_POLL_S)
        return _fits(request)
    finally:
        request_resources(bundles=[])  # from here on, the job's own processes hold the machines


def _fits(request: ResourceRequest) -> bool:
    nodes = _live_nodes()
    processes = sum(_processes_on(node, request) for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    return processes >= request.count and cpus >= request.count * request.cpus + request.readers


def _processes_on(node: dict[str, float], request: ResourceRequest) -> int:
    """Returns how many of the requested processes fit on a machine with these resources."""
    by_cpu = node.get("CPU", 0) // request.cpus
    return int(min(by_cpu, node.get("GPU", 0) // request.gpus) if request.gpus else by_cpu)


def _live_nodes() -> list[dict[str, float]]:
    """Returns the resources of every machine of the cluster that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _describe_nodes() -> str:
    nodes = _live_nodes()
    described = [
        f"{node.get('CPU', 0):g} CPU" + (f" and {node['GPU']:g} GPU" if node.get("GPU") else "")
        for node in nodes
    ]
    return f"{len(nodes)} machine{'s' if len(nodes) != 1 else ''} ({', '.join(described)})"
