"""Gives a worker what it needs of Ray Train: its rank and rows, a report that is a barrier, a bar on the driver."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import ray.train
from ray.experimental import tqdm_ray
from ray.train.collective import broadcast_from_rank_zero

# These loggers are in private modules of Ray; there is no public name for them.
from ray.train.v2._internal.execution.context import logger as _report_logger
from ray.train.v2._internal.util import logger as _traceback_logger

from cnnlib.errors import RestartError
from cnnlib.training.ray.shards import TRAIN


class Rank(NamedTuple):
    """A worker's number, from 0, and how many workers there are."""

    rank: int
    workers: int


class Bar(Protocol):
    """The part of a tqdm bar that this project uses."""

    n: int

    def set_description(self, text: str) -> None:
        """Shows a text beside the bar."""

    def close(self) -> None:
        """Removes the bar from the terminal."""


def join_session() -> Rank:
    """Returns this worker's rank. Call it once, in the worker, before `report_epoch`."""
    # At its default level this logger writes a line for every report of every worker.
    _report_logger.setLevel(logging.WARNING)
    _traceback_logger.addFilter(_is_no_restart)
    context = ray.train.get_context()
    return Rank(rank=context.get_world_rank(), workers=context.get_world_size())


def receive_rows(name: str = TRAIN) -> Any:
    """Waits for the rows of a dataset that were dealt to this worker, and returns them. Call it after `join_session`.

    Returns:
        A `DataIterator` over its blocks, or for streamed rows the `ReadTasks` that read them.
    """
    return ray.train.get_dataset_shard(name)


def agree(value: str) -> str:
    """Returns the value of the worker of rank 0 in every worker, once all of them have called it."""
    agreed: str = broadcast_from_rank_zero(value)
    return agreed


def report_epoch(metrics: Mapping[str, float]) -> None:
    """Reports an epoch's metrics to Ray Train, and returns once all workers have reported theirs: it is a barrier."""
    ray.train.report(dict(metrics))


def open_bar(total_steps: int) -> Bar:
    """Opens a progress bar on the driver's terminal. Ray carries it there from the worker's stdout."""
    bar: Bar = tqdm_ray.tqdm(total=total_steps, unit="step", desc="training")
    return bar


def _is_no_restart(record: logging.LogRecord) -> bool:
    """Returns False for the traceback of a restart on purpose, which is no error; the driver says why in a line."""
    return f"{RestartError.__module__}.{RestartError.__qualname__}: " not in record.getMessage()
