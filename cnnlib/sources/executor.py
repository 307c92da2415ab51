"""Chooses where the tasks of a streamed source run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnlib.cluster.local import in_local_mode
from cnnlib.dataset.stream_writer import run_in_threads

_FEW_TASKS = 8
"""So few tasks are done in this process before a Ray of our own has started: that takes about 10 s."""


def run_tasks(tasks: Sequence[bytes]) -> Iterable[bytes]:
    """Runs the tasks on the cluster at RAY_ADDRESS, on a cluster on this machine, or, if they are few, right here."""
    if in_local_mode() and len(tasks) <= _FEW_TASKS:
        return run_in_threads(tasks)
    from cnnlib.sources.ray_data import run_on_cluster

    return run_on_cluster(tasks)
