"""Tests when a run ends early: a function of the accuracies so far."""

from __future__ import annotations

import pytest

from cnnlib.config import EarlyStoppingConfig
from cnnlib.runs.early_stopping import is_stopped
from tests.histories import make_history


def first_stop(accuracies: list[float], patience: int, min_delta: float = 0.0) -> int | None:
    """Returns the epoch after which a run with these accuracies ends; None if it does not."""
    config, history = EarlyStoppingConfig(patience=patience, min_delta=min_delta), make_history(accuracies)
    stops = [epoch for epoch in range(1, len(history) + 1) if is_stopped(history[:epoch], config)]
    return min(stops, default=None)


@pytest.mark.parametrize(
    ("accuracies", "patience", "min_delta", "epoch"),
    [
        ([0.5, 0.5, 0.5, 0.5], 0, 0.0, None),
        ([0.5, 0.6, 0.7, 0.8], 1, 0.0, None),
        ([0.5, 0.6, 0.6, 0.8], 1, 0.0, 3),
        ([0.5, 0.6, 0.6, 0.8], 2, 0.0, None),
        ([0.5, 0.7, 0.6, 0.65, 0.9], 2, 0.0, 4),
        ([0.5, 0.51, 0.52, 0.53], 2, 0.0, None),
        ([0.5, 0.51, 0.53, 0.53], 2, 0.02, None),  # better than 0.5 by more than 0.02 in time
        ([0.5, 0.51, 0.52, 0.53], 2, 0.05, 3),
        ([0.0, 0.0], 1, 0.0, 2),
    ],
)
def test_run_ends_when_nothing_better_came_for_long_enough(
    accuracies: list[float], patience: int, min_delta: float, epoch: int | None
) -> None:
    assert first_stop(accuracies, patience, min_delta) == epoch


def test_run_without_an_epoch_is_not_stopped() -> None:
    assert not is_stopped([], EarlyStoppingConfig(patience=1))
