"""Runs the tasks of a streamed source on the cluster at RAY_ADDRESS, or on a cluster on this machine, with Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import ray

from cnnlib.cluster.connect import ResourceRequest, connect, explaining_deaths
from cnnlib.dataset.chunks import run_chunk

_TASK, _RESULT = "task", "result"
_IF_KILLED = (
    "Try a smaller --shard-mib or machines with more memory. Shards that were written are kept: the same command "
    "continues."
)


def run_on_cluster(tasks: Sequence[bytes]) -> Iterator[bytes]:
    """Runs the tasks, each on one CPU, on as many CPUs as are free; yields the results as they come.

    Raises:
        ResourceError: there is no cluster at RAY_ADDRESS.
        ClusterError: a cluster on this machine did not start, or a task was killed again and again.
    """
    with connect(ResourceRequest(what="tasks", count=1, cpus=1, gpus=0)):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it says that they are off
        dataset = ray.data.from_items([{_TASK: task} for task in tasks], override_num_blocks=len(tasks))
        written = dataset.map_batches(_run, batch_size=1, num_cpus=1)
        with explaining_deaths("A task that reads images", _IF_KILLED):
            for row in written.iter_rows():
                yield row[_RESULT]


def _run(batch: dict[str, npt.NDArray[np.object_]]) -> dict[str, npt.NDArray[np.object_]]:
    results = [run_chunk(task) for task in batch[_TASK]]
    return {_RESULT: np.array([*results, None], dtype=object)[:-1]}
