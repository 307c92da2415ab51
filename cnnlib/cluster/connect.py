"""The Ray cluster a job runs on: the one it was given, or one of its own on this machine.

Also what must be known of it before anything is started: whether it can ever hold what was asked for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from cnnlib.cluster.local import ADDRESS_VARIABLE, in_local_mode
from cnnlib.errors import CnnlibError, ResourceError
from cnnlib.log import log_event

_READER_CPUS = 1  # for Ray Data's tasks, which would otherwise wait for the workers' CPUs for ever
_POLL_S = 2.0
_LAST_LINES_S = 0.5  # how long Ray, too, waits for what workers printed last, where it shuts down by itself


@dataclass(frozen=True, kw_only=True)
class ResourceRequest:
    """So many bundles, each of which must fit on one machine; `what` names them in messages."""

    what: str
    count: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        gpus = f" and {self.gpus} GPU" if self.gpus else ""
        return f"{self.count} {self.what} of {self.cpus} CPU{gpus} each"


def divide_cores(count: int, cpus: int | None) -> int:
    """CPUs for each of `count` processes: what was asked for, else this machine's cores shared out, else 1."""
    if cpus is not None:
        return cpus
    return max(1, num_cores() // count) if in_local_mode() else 1


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@contextlib.contextmanager
def connect(request: ResourceRequest, wait_s: float = 0.0) -> Iterator[None]:
    """Connects to the cluster at RAY_ADDRESS, or starts one here, and leaves it at the end.

    Args:
        demand: what the job will ask for; checked before anything is started.
        wait_s: how long to wait for the cluster to grow to the demand, in seconds; 0: not at all.

    Raises:
        ResourceError: the cluster cannot hold the demand, or there is no cluster at the address.
    """
    with _local_cluster(request) if in_local_mode() else _given_cluster():
        _check_request(request, wait_s)
        yield
        time.sleep(_LAST_LINES_S)


def memory_per_worker(request: ResourceRequest) -> int:
    """Bytes of memory for each of the processes where most of them share one machine; call it while connected."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    shares = [
        node.get("memory", 0) / min(request.count, _bundles_on(node, request))
        for node in nodes
        if _bundles_on(node, request)
    ]
    return int(min(shares, default=0))


def find_own_error(err: BaseException) -> CnnlibError | None:
    """The error of ours inside one that Ray wrapped on its way from a worker, if there is one."""
    seen: set[int] = set()
    pending: list[BaseException] = [err]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, CnnlibError) and type(current).__module__ == CnnlibError.__module__:
            return current
        inner = [current.__cause__, current.__context__]
        inner += [getattr(current, name, None) for name in ("cause", "controller_failure")]
        inner += list(getattr(current, "worker_failures", {}).values())
        pending += [each for each in inner if isinstance(each, BaseException)]
    return None


@contextlib.contextmanager
def _local_cluster(request: ResourceRequest) -> Iterator[None]:
    cores, wanted = num_cores(), request.count * request.cpus
    if wanted > cores:
        log_event("cluster", note=f"{request} on {cores} cores: they share them and take turns")
    ray.init(
        address="local",
        num_cpus=max(cores, wanted + _READER_CPUS),
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=True,
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _given_cluster() -> Iterator[None]:
    address = os.environ[ADDRESS_VARIABLE]
    try:
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


def _check_request(request: ResourceRequest, wait_s: float) -> None:
    if _fits(request):
        return
    if wait_s and _grows_to(request, wait_s):
        return
    waited = f" after {wait_s:g} s" if wait_s else ""
    raise ResourceError(
        f"The cluster cannot give {request}, with one CPU left to read the data. It has {_describe_nodes()}{waited}. "
        "Ask for fewer or smaller ones, add machines, or, where the cluster grows by itself, give it the time to: "
        "--cluster.wait-for-resources-s (jobs.evaluate: --wait-for-resources-s)."
    )


def _grows_to(request: ResourceRequest, wait_s: float) -> bool:
    """Asks the cluster's autoscaler for the demand, if it has one, and waits; True once it is there."""
    bundle = {"CPU": request.cpus} | ({"GPU": request.gpus} if request.gpus else {})
    log_event("cluster", note=f"waiting for {request}", has=_describe_nodes(), at_most_s=wait_s)
    request_resources(bundles=[*[bundle] * request.count, {"CPU": _READER_CPUS}])
    deadline = time.monotonic() + wait_s
    try:
        while time.monotonic() < deadline:
            if _fits(request):
                return True
            time.sleep(_POLL_S)
        return _fits(request)
    finally:
        request_resources(bundles=[])  # the job's own demand holds the machines from here on


def _fits(request: ResourceRequest) -> bool:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    bundles = sum(_bundles_on(node, request) for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    return bundles >= request.count and cpus > request.count * request.cpus


def _bundles_on(node: dict[str, float], request: ResourceRequest) -> int:
    by_cpu = node.get("CPU", 0) // request.cpus
    return int(min(by_cpu, node.get("GPU", 0) // request.gpus) if request.gpus else by_cpu)


def _describe_nodes() -> str:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    described = [
        f"{node.get('CPU', 0):g} CPU" + (f" and {node['GPU']:g} GPU" if node.get("GPU") else "")
        for node in nodes
    ]
    return f"{len(nodes)} machine{'s' if len(nodes) != 1 else ''} ({', '.join(described)})"
