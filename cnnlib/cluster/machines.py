"""Calls a function on every other machine of a cluster that can run the processes of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import ray

# There is no public name for what each machine has free, and which will be taken away.
from ray._private.state import available_resources_per_node
from ray._private.state import state as _state
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cnnlib.log import log_event

_ANSWER_S = 120.0  # a machine that has to start a process first, while others use it

ResultT = TypeVar("ResultT")


def count_other_machines() -> int:
    """Returns the number of machines with CPUs, without this one. Requires a connection."""
    return len(_other_machines())


def machines_with_cpus() -> list[str]:
    """Returns the node ids of all machines of the cluster that have CPUs. Requires a connection."""
    return list(cpus_of_machines())


def cpus_of_machines() -> dict[str, float]:
    """Returns the CPUs of all machines of the cluster that have some, by node id. Requires a connection."""
    cpus = {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]}
    return {node: count for node, count in cpus.items() if count > 0}


def leaving_machines() -> list[str]:
    """Returns the node ids of the machines that will be taken away."""
    return list(_state.get_draining_nodes())


def total_resources() -> dict[str, dict[str, float]]:
    """Returns the resources, by name, of each machine that is alive and will not be taken away, by node id."""
    leaving = leaving_machines()
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    return {node: resources for node, resources in nodes.items() if node not in leaving}


def free_resources() -> dict[str, dict[str, float]]:
    """Returns what nobody uses of those resources; a machine that was lost a moment ago may still be among them."""
    leaving = leaving_machines()
    return {node: free for node, free in available_resources_per_node().items() if node not in leaving}


def ask_other_machines(function: Callable[[], ResultT]) -> dict[str, ResultT]:
    """Calls a function on every other machine with CPUs; returns the results by the machine's address.

    A machine that does not answer, because it has just been lost or is too busy, is left out and named in the log.
    """
    # No CPU: the question must not wait for those who use the machine.
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {
        machine["NodeManagerAddress"]: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False)
        ).remote()
        for machine in _other_machines()
    }
    answers: dict[str, ResultT] = {}
    for address, answer in asked.items():
        try:
            answers[address] = ray.get(answer, timeout=_ANSWER_S)
        except (GetTimeoutError, RayError) as err:
            log_event("cluster", note=f"the machine {address} does not answer", reason=type(err).__name__)
    return answers


def _other_machines() -> list[dict[str, Any]]:
    here = ray.get_runtime_context().get_node_id()
    return [
        node
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here and node["Resources"].get("CPU", 0) > 0
    ]
