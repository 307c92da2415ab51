"""The environment of a Ray that a job starts on this machine. Ray reads it when it is imported, so set it before."""

from __future__ import annotations

import os
import secrets

ADDRESS_VARIABLE = "RAY_ADDRESS"

_AUTH_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_EVERYWHERE = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task without GPUs must not see one
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "WARNING",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # every line of a worker would be printed twice
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # Ray's 60 s are short where workers share cores
    "RAY_USAGE_STATS_ENABLED": "0",
}
_LOCAL = {
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",  # the controller is the driver, which has its own
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody reclaims this machine
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # also how long a run takes to notice that it is over
}


def in_local_mode() -> bool:
    """True where no cluster address is given, so that the job starts a Ray of its own."""
    return not os.environ.get(ADDRESS_VARIABLE)


def set_environment() -> None:
    """Sets what the user has not: less noise everywhere, and authentication for a Ray of our own.

    With token authentication and a token of its own in the environment: left to itself Ray would write a token
    file into HOME, and without one any user of this machine could run code in the cluster.
    """
    for name, value in (_EVERYWHERE | (_LOCAL if in_local_mode() else {})).items():
        os.environ.setdefault(name, value)
    if in_local_mode() and not any(os.environ.get(name) for name in _AUTH_VARIABLES):
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
