"""Hands each worker its rows as Ray Train's dataset shard "train", as soon as they are dealt.

Ray Train's own `DatasetsCallback` starts an actor when the first worker asks, and `streaming_split(equal=True)` behind
it drops rows. Here the rows are dealt in a thread beside the start of the workers: in the driver on a cluster of our
own, else in the controller. Workers that start again get the same blocks, so nothing is read again.

This file uses internals of the Ray version that pyproject.toml pins; tests/unit/training/ray/test_shards.py fails when
one of them moves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from ray.exceptions import RayError
from ray.train.v2._internal.data_integration.interfaces import DatasetShardMetadata
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.worker_group import Worker, WorkerGroup, WorkerGroupContext

from cnnlib.log import log_event

TRAIN, VALIDATION = "train", "validation"


class Dealt(Protocol):
    """The rows of a dataset for all workers: `DealtRows` in memory, `StreamedRows` that are read when needed."""

    def for_workers(self, nodes: Sequence[str]) -> Sequence[Any]:
        """Returns the dataset shard of each worker, for the node ids of the machines on which the workers run."""

    def have_failed(self) -> bool:
        """Returns whether the rows must be dealt again."""


Deal = Callable[[int], Mapping[str, Dealt]]
"""Deals the rows of each dataset to a number of workers, by its name: `TRAIN`, and `VALIDATION` if that is a split."""


class DealRows(WorkerGroupCallback):  # type: ignore[misc]
    """Deals the rows of a run once for each number of workers, and hands each worker its own at every start."""

    def __init__(self, deal: Deal) -> None:
        """Takes a function that deals the rows of all workers."""
        self._deal = deal
        self._dealt: Future[Mapping[str, Dealt]] | None = (
            None  # made where the controller runs: it cannot be pickled
        )
        self._workers = 0  # for how many they were dealt

    def before_worker_group_start(self, worker_group_context: WorkerGroupContext) -> None:
        """Begins to deal the rows, at the first start of so many workers or if dealing them has failed."""
        workers = worker_group_context.num_workers
        if self._dealt is None or self._workers != workers or _has_failed(self._dealt):
            self._dealt, self._workers = Future(), workers
            threading.Thread(
                target=_settle, args=(self._dealt, self._deal, workers), name="deal-rows", daemon=True
            ).start()

    def before_init_train_context(self, workers: Sequence[Worker]) -> dict[str, list[ReceivedRows]]:
        """Gives every worker the place in which it receives its rows."""
        return {"dataset_shard_provider": [ReceivedRows() for _ in workers]}

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        """Lets each worker have its rows, now or when they are dealt."""
        assert self._dealt is not None
        self._dealt.add_done_callback(partial(_hand_out, worker_group.get_workers()))


class ReceivedRows:
    """Holds, in a worker, the rows that it receives; Ray Train asks it for the worker's dataset shard."""

    def __init__(self) -> None:
        self.rows: Future[Mapping[str, Any]] = Future()

    def __reduce__(self) -> tuple[type[ReceivedRows], tuple[()]]:
        return ReceivedRows, ()

    def get_dataset_shard(self, dataset_info: DatasetShardMetadata) -> Any:
        """Waits for the rows and returns them, or raises the error that dealing them raised."""
        rows, name = self.rows.result(), dataset_info.dataset_name
        if name not in rows:
            raise KeyError(f"There is no dataset {name!r}, only {', '.join(map(repr, rows))}.")
        return rows[name]


def _settle(dealt: Future[Mapping[str, Dealt]], deal: Deal, workers: int) -> None:
    try:
        dealt.set_result(deal(workers))
    except BaseException as err:  # the workers raise it
        dealt.set_exception(err)


def _has_failed(dealt: Future[Mapping[str, Dealt]]) -> bool:
    if not dealt.done():
        return False
    return dealt.exception() is not None or any(each.have_failed() for each in dealt.result().values())


def _hand_out(workers: Sequence[Worker], dealt: Future[Mapping[str, Dealt]]) -> None:
    """Sends each worker its rows, or the error of dealing them. A worker that has died meanwhile needs none."""
    error = dealt.exception()
    nodes = [worker.metadata.node_id for worker in workers]
    shards = {} if error else {name: each.for_workers(nodes) for name, each in dealt.result().items()}
    for rank, worker in enumerate(workers):
        rows = error or {name: of_rank[rank] for name, of_rank in shards.items()}
        try:
            worker.execute_async(_receive, rows)
        except RayError as err:
            log_event("workers", note="a worker could not be handed its rows", reason=type(err).__name__)


def _receive(received: Mapping[str, Any] | BaseException) -> None:
    """Runs in a worker: hands what was dealt to those who wait for it."""
    rows = get_train_context().dataset_shard_provider.rows
    if isinstance(received, BaseException):
        rows.set_exception(received)
    else:
        rows.set_result(received)
