"""Sets the environment variables of Ray. Ray reads them when it is imported, so a job sets them first."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from cnnlib.errors import ConfigError
from cnnlib.log import log_event

ADDRESS_VARIABLE = "RAY_ADDRESS"

_AUTH_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_EVERYWHERE = {
    # 1: Ray sets the variable of the visible GPUs also for a process without one, which must see none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_COLOR_PREFIX": "0",  # logs are for files, too: no terminal colours around "(worker pid=...)"
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "WARNING",
    "RAY_task_oom_retries": "2",  # of a task that was killed because memory ran out; Ray's own number is infinite
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # every line of a worker would be printed twice
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # Ray's 60 s are too short where workers share cores
    "RAY_USAGE_STATS_ENABLED": "0",
}
_LOCAL = {
    # Together as patient as Ray's own 10 attempts, one a second, of which the first is often made a moment too early.
    "RAY_raylet_client_connect_timeout_milliseconds": "50",
    "RAY_raylet_client_num_connect_attempts": "400",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",  # the controller's process, the driver, logs itself
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # no cloud provider reclaims this machine
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # also the delay until a run notices that its workers have ended
}
_GRPC_VARIABLE = "no_grpc_proxy"
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_TEMP_VARIABLES = ("RAY_TMPDIR", "TMPDIR")  # in the order in which Ray asks for them
_MAX_SOCKET_BYTES = 107  # of the path of a UNIX socket on Linux, sun_path in unix(7)
# What Ray adds to its temporary folder: the longest name of a session and of a socket in it.
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_SHORT_TEMP = "/tmp"


def in_local_mode() -> bool:
    """Returns whether RAY_ADDRESS is unset or empty, so that the job starts a Ray cluster of its own."""
    return not os.environ.get(ADDRESS_VARIABLE)


def set_environment() -> None:
    """Sets the variables that the user has not set: less output everywhere, and authentication in local mode.

    Connections to this machine never go through the proxy of `http_proxy`.
    """
    for name, value in (_EVERYWHERE | (_LOCAL if in_local_mode() else {})).items():
        os.environ.setdefault(name, value)
    bypass_proxy(_THIS_MACHINE)
    if in_local_mode() and not any(os.environ.get(name) for name in _AUTH_VARIABLES):
        # Without a token, any user of this machine could run code in the cluster. The token is in the environment,
        # because Ray would otherwise write a token file into HOME.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def bypass_proxy(hosts: Iterable[str]) -> None:
    """Lets connections of this process to some hosts go past a proxy, if the environment names one.

    gRPC, over which workers talk, reads only the variables in lower case, and `no_grpc_proxy` before `no_proxy`.
    """
    if not any(
        name.lower() in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy") for name in os.environ
    ):
        return
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    variables = ["no_proxy", "NO_PROXY", *(name for name in os.environ if name == _GRPC_VARIABLE)]
    for variable in variables:
        listed = (os.environ.get(variable) or before).split(",")
        known = {each.strip() for each in listed}
        os.environ[variable] = ",".join(
            filter(None, [*listed, *(each for each in hosts if each not in known)])
        )


def set_short_temp_folder() -> None:
    """Lets Ray put its sockets below /tmp if the path of a socket below TMPDIR would be too long for the system.

    Raises:
        ConfigError: RAY_TMPDIR is too long, or /tmp cannot be written.
    """
    variable = next((name for name in _TEMP_VARIABLES if name in os.environ), None)
    if variable is None or len(os.fsencode(Path(os.environ[variable]) / _SOCKET)) <= _MAX_SOCKET_BYTES:
        return
    most = _MAX_SOCKET_BYTES - len(_SOCKET) - 1
    problem = f"{variable}={os.environ[variable]} is too long for Ray's sockets"
    if variable == "RAY_TMPDIR" or not os.access(_SHORT_TEMP, os.W_OK):
        raise ConfigError(
            f"{problem}. Expected at most {most} bytes. Set RAY_TMPDIR to a short path, such as /tmp."
        )
    os.environ["RAY_TMPDIR"] = _SHORT_TEMP
    log_event("cluster", note=f"{problem}: they are in {_SHORT_TEMP}", at_most_bytes=most)
