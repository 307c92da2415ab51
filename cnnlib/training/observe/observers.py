"""Defines the observers of a run, on the chief alone: TensorBoard, its profiler and MLflow follow a run through them.

An observer never changes what a run computes. To add one, write a subclass of `Observer` in a file of its own and
create it in `build_observers` (training/chief.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnlib.runs.history import EpochRecord

if TYPE_CHECKING:
    from cnnlib.training.step import TrainCall


class Observer:
    """Follows a run. Every method does nothing until a subclass overrides it."""

    def watch(self, train_call: TrainCall, calls: int) -> TrainCall:
        """Returns the function to call in place of `train_call`, which the run calls `calls` times from now on."""
        del calls
        return train_call

    def end_epoch(self, record: EpochRecord) -> None:
        """Receives the result of an epoch. After a restart an epoch may come again; its later result counts."""

    def close(self) -> None:
        """Ends the observation: the run is over."""


class Observers(Observer):
    """Passes every call on to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def watch(self, train_call: TrainCall, calls: int) -> TrainCall:
        """See `Observer.watch`."""
        for each in self._observers:
            train_call = each.watch(train_call, calls)
        return train_call

    def end_epoch(self, record: EpochRecord) -> None:
        """See `Observer.end_epoch`."""
        for each in self._observers:
            each.end_epoch(record)

    def close(self) -> None:
        """See `Observer.close`."""
        for each in self._observers:
            each.close()
