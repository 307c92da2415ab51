"""Starts a Ray cluster on this machine: fast, and with more time where a loaded machine needs it.

Ray has no switch for what is changed here, so this file replaces functions of the Ray version that pyproject.toml pins.
tests/unit/cluster/test_start.py fails when they move.

* Ray waits 30 s for its own processes. On a loaded machine that is too short for a part of them.
* A head starts two processes that a cluster of one job has no use for: the server of the dashboard, also when no
  dashboard is wanted, and the autoscaler. They cost 0.7 s at the start, and 1 s at the end, until the second is killed.
* Ray asks once a second whether its node is there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import ray
from ray._private import services
from ray._private.node import Node
from ray._private.state import GlobalState

from cnnlib.cluster.local import set_short_temp_folder
from cnnlib.errors import ClusterError
from cnnlib.log import log_event

_MORE_TIME_S = 120
_PORT_WAIT = "RAY_gcs_server_port_wait_time_s"
_POLL_S = 0.5
_EARLY_POLL_S, _EARLY_S = 0.05, 30.0
_GetNode = Callable[[str, str], object]


def start_ray(start: Callable[[], object]) -> None:
    """Starts Ray; after a failure tries once more, with 120 s instead of 30 s. A failed start leaves no process.

    Args:
        start: calls `ray.init`.

    Raises:
        ConfigError: the folder for Ray's sockets has too long a path.
        ClusterError: Ray did not start in the second attempt either.
    """
    set_short_temp_folder()
    with _few_processes():
        with _found_early():
            reason = _try_to_start(start)
        if reason is None:
            return
        log_event("cluster", note=f"Ray did not start; trying again for {_MORE_TIME_S} s", reason=reason)
        with _more_time(_MORE_TIME_S):
            reason = _try_to_start(start)
    if reason is not None:
        raise ClusterError(
            f"Ray did not start on this machine, also not in a second attempt of {_MORE_TIME_S} s: {reason}. The "
            "machine may be overloaded, or out of memory or disk space. Run it again later, or set RAY_ADDRESS to a "
            "cluster that runs."
        )


def _try_to_start(start: Callable[[], object]) -> str | None:
    """Returns why Ray did not start; None: it started."""
    try:
        start()
    except Exception as err:  # Ray raises a bare Exception
        _stop_processes(err)
        ray.shutdown()
        lines = [line.strip() for line in str(err).splitlines() if line.strip()]
        return lines[0].rstrip(".") if lines else type(err).__name__
    return None


def _stop_processes(err: Exception) -> None:
    """Stops the processes of a node whose constructor failed: only its frame in the traceback still knows it."""
    trace = err.__traceback__
    while trace is not None:
        node = trace.tb_frame.f_locals.get("self")
        if isinstance(node, Node) and hasattr(node, "all_processes"):
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        trace = trace.tb_next


@contextlib.contextmanager
def _few_processes() -> Iterator[None]:
    """Starts heads without the server of the dashboard and without the autoscaler."""
    start_api_server, start_monitor = Node.start_api_server, Node.start_monitor

    def leave_out_api_server(node: Node, **_: object) -> None:
        node._webui_url = None

    def leave_out_monitor(node: Node) -> None:
        del node

    Node.start_api_server, Node.start_monitor = leave_out_api_server, leave_out_monitor
    try:
        yield
    finally:
        Node.start_api_server, Node.start_monitor = start_api_server, start_monitor


@contextlib.contextmanager
def _found_early() -> Iterator[None]:
    """Lets Ray ask for its node as soon as the node is there."""

    def get_node_early(get_node: _GetNode, gcs_address: str, node_id: str) -> object:
        with contextlib.suppress(Exception):  # Ray's own function says what is wrong, and Ray tries again
            state = GlobalState()
            state._initialize_global_state(services._get_gcs_client_options(gcs_address))
            deadline = time.monotonic() + _EARLY_S
            while not _is_known(state, node_id) and time.monotonic() < deadline:
                time.sleep(_EARLY_POLL_S)
        return get_node(gcs_address, node_id)

    with _gets_node(get_node_early):
        yield


def _is_known(state: GlobalState, node_id: str) -> bool:
    return any(node["NodeID"] == node_id for node in state.node_table())


@contextlib.contextmanager
def _more_time(seconds: float) -> Iterator[None]:
    """Lets Ray wait longer for the two processes that it waits for: the GCS and the raylet."""
    port_wait = os.environ.get(_PORT_WAIT)
    deadline = time.monotonic() + seconds

    def get_node_later(get_node: _GetNode, gcs_address: str, node_id: str) -> object:
        while True:
            try:
                return get_node(gcs_address, node_id)
            except RuntimeError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_S)

    os.environ[_PORT_WAIT] = port_wait or str(round(seconds))
    try:
        with _gets_node(get_node_later):
            yield
    finally:
        del os.environ[_PORT_WAIT]
        if port_wait is not None:
            os.environ[_PORT_WAIT] = port_wait


@contextlib.contextmanager
def _gets_node(replacement: Callable[[_GetNode, str, str], object]) -> Iterator[None]:
    """Replaces how Ray gets its node.

    Args:
        replacement: is called with Ray's own function, the address of the GCS and the id of the node.
    """
    get_node = services.get_node
    services.get_node = lambda gcs_address, node_id: replacement(get_node, gcs_address, node_id)
    try:
        yield
    finally:
        services.get_node = get_node
