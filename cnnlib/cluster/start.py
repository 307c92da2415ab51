"""Starts a Ray cluster on this machine, with more time where a loaded machine needs it.

Ray waits 30 s for its own processes and has no switch for a part of that, so this file replaces a function of the Ray
version that pyproject.toml pins. tests/unit/cluster/test_start.py fails when it moves.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import ray
from ray._private import services
from ray._private.node import Node

from cnnlib.cluster.local import set_short_temp_folder
from cnnlib.errors import ClusterError
from cnnlib.log import log_event

_MORE_TIME_S = 120
_PORT_WAIT = "RAY_gcs_server_port_wait_time_s"
_POLL_S = 0.5


def start_ray(start: Callable[[], object]) -> None:
    """Starts Ray; after a failure tries once more, with 120 s instead of 30 s. A failed start leaves no process.

    Args:
        start: calls `ray.init`.

    Raises:
        ConfigError: the folder for Ray's sockets has too long a path.
        ClusterError: Ray did not start in the second attempt either.
    """
    set_short_temp_folder()
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
def _more_time(seconds: float) -> Iterator[None]:
    """Lets Ray wait longer for the two processes that it waits for: the GCS and the raylet."""
    get_node, port_wait = services.get_node, os.environ.get(_PORT_WAIT)
    deadline = time.monotonic() + seconds

    def get_node_later(gcs_address: str, node_id: str) -> object:
        while True:
            try:
                return get_node(gcs_address, node_id)
            except RuntimeError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_S)

    services.get_node = get_node_later
    os.environ[_PORT_WAIT] = port_wait or str(round(seconds))
    try:
        yield
    finally:
        services.get_node = get_node
        del os.environ[_PORT_WAIT]
        if port_wait is not None:
            os.environ[_PORT_WAIT] = port_wait
