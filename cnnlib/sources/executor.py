"""Chooses where the tasks of a streamed source run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnlib.cluster.local import in_local_mode
from cnnlib.cores import num_cores
from cnnlib.dataset.stream_writer import run_in_threads

_FEW_TASKS = 8
"""So few tasks are done in this process before a Ray of our own has started: that takes about 10 s."""
_FEW_CORES = 8
"""So few cores are used up by the threads of one process."""


def run_tasks(tasks: Sequence[bytes]) -> Iterable[bytes]:
    """Runs the tasks on the cluster at RAY_ADDRESS; without one in this process, or on a Ray of our own."""
    if in_local_mode() and (len(tasks) <= _FEW_TASKS or num_cores() <= _FEW_CORES):
        return run_in_threads(tasks)
    from cnnlib.sources.ray_data import run_on_cluster

    return run_on_cluster(tasks)
