"""Hands each worker its rows as Ray Train's dataset shard "train", as soon as they are dealt.

Ray Train's own `DatasetsCallback` starts an actor when the first worker asks, and `streaming_split(equal=True)` behind
it drops rows. Here the rows are dealt in a thread beside the start of the workers: in the driver on a cluster of our
own, else in the controller. Workers that start again get the same blocks, so nothing is read again.

This file uses internals of the Ray version that pyproject.toml pins; tests/unit/training/ray/test_shards.py fails when
one of them moves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from ray.data import DataIterator
from ray.exceptions import RayError
from ray.train.v2._internal.data_integration.interfaces import DatasetShardMetadata
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.worker_group import Worker, WorkerGroup, WorkerGroupContext

from cnnlib.feed.ray_data import DealtRows
from cnnlib.log import log_event

TRAIN = "train"


class DealRows(WorkerGroupCallback):  # type: ignore[misc]
    """Deals the rows of a run once, and hands each worker its own at every start of the workers."""

    def __init__(self, deal: Callable[[], DealtRows]) -> None:
        """Takes a function that deals the rows of all workers."""
        self._deal = deal
        self._dealt: Future[DealtRows] | None = None  # made where the controller runs: it cannot be pickled

    def before_worker_group_start(self, worker_group_context: WorkerGroupContext) -> None:
        """Begins to deal the rows, at the first start of the workers or if dealing them has failed."""
        del worker_group_context
        if self._dealt is None or _has_failed(self._dealt):
            self._dealt = Future()
            threading.Thread(
                target=_settle, args=(self._dealt, self._deal), name="deal-rows", daemon=True
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
        self.rows: Future[DataIterator] = Future()

    def __reduce__(self) -> tuple[type[ReceivedRows], tuple[()]]:
        return ReceivedRows, ()

    def get_dataset_shard(self, dataset_info: DatasetShardMetadata) -> DataIterator:
        """Waits for the rows and returns them, or raises the error that dealing them raised."""
        if dataset_info.dataset_name != TRAIN:
            raise KeyError(f"There is no dataset {dataset_info.dataset_name!r}, only {TRAIN!r}.")
        return self.rows.result()


def _settle(dealt: Future[DealtRows], deal: Callable[[], DealtRows]) -> None:
    try:
        dealt.set_result(deal())
    except BaseException as err:  # the workers raise it
        dealt.set_exception(err)


def _has_failed(dealt: Future[DealtRows]) -> bool:
    return dealt.done() and (dealt.exception() is not None or dealt.result().have_failed())


def _hand_out(workers: Sequence[Worker], dealt: Future[DealtRows]) -> None:
    """Sends each worker its rows, or the error of dealing them. A worker that has died meanwhile needs none."""
    error = dealt.exception()
    received = [error] * len(workers) if error is not None else dealt.result().of_rank
    for worker, rows in zip(workers, received, strict=True):
        try:
            worker.execute_async(_receive, rows)
        except RayError as err:
            log_event("workers", note="a worker could not be handed its rows", reason=type(err).__name__)


def _receive(received: DataIterator | BaseException) -> None:
    """Runs in a worker: hands what was dealt to those who wait for it."""
    rows = get_train_context().dataset_shard_provider.rows
    if isinstance(received, BaseException):
        rows.set_exception(received)
    else:
        rows.set_result(received)
