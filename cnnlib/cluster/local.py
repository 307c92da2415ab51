"""Sets the environment variables of Ray. Ray reads them when it is imported, so a job sets them first."""

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
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # Ray's 60 s are too short where workers share cores
    "RAY_USAGE_STATS_ENABLED": "0",
}
_LOCAL = {
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",  # the controller's process, the driver, logs itself
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # no cloud provider reclaims this machine
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # also the delay until a run notices that its workers have ended
}


def in_local_mode() -> bool:
    """Returns whether RAY_ADDRESS is unset or empty, so that the job starts a Ray cluster of its own."""
    return not os.environ.get(ADDRESS_VARIABLE)


def set_environment() -> None:
    """Sets the variables that the user has not set: less output everywhere, and authentication in local mode."""
    for name, value in (_EVERYWHERE | (_LOCAL if in_local_mode() else {})).items():
        os.environ.setdefault(name, value)
    if in_local_mode() and not any(os.environ.get(name) for name in _AUTH_VARIABLES):
        # Without a token, any user of this machine could run code in the cluster. The token is in the environment,
        # because Ray would otherwise write a token file into HOME.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
