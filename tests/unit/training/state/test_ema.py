"""Tests the moving average of the weights: its formula, and that it does not change the training."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnlib.config import OptimizerConfig
from cnnlib.training.state.ema import averaged_weights
from tests.unit.training.state.test_checkpoint import BATCH, build, train

MOMENTUM = 0.75


def test_average_follows_its_formula_and_training_goes_on_from_the_raw_weights(
    strategy: Any, make_batches: Any
) -> None:
    averaging = build(strategy, optimizer=OptimizerConfig(ema_momentum=MOMENTUM))
    plain = build(strategy)
    images, labels = make_batches(4, BATCH)
    average: list[np.ndarray] = []
    for step in range(4):
        for state in (averaging, plain):
            train(state, (images[step : step + 1], labels[step : step + 1]))
        raw = plain.model.get_weights()
        average = (
            [MOMENTUM * old + (1 - MOMENTUM) * new for old, new in zip(average, raw, strict=True)]
            if average
            else raw
        )
        with averaged_weights(averaging.model, averaging.optimizer):
            for have, want in zip(averaging.model.get_weights(), average, strict=True):
                assert have.dtype == np.float32
                np.testing.assert_allclose(have, want, rtol=0, atol=1e-6)
        for have, want in zip(averaging.model.get_weights(), raw, strict=True):
            np.testing.assert_array_equal(have, want)
    assert any((a != b).any() for a, b in zip(average, raw, strict=True))


def test_without_an_average_the_weights_stay_in_place(strategy: Any) -> None:
    state = build(strategy)
    before = state.model.get_weights()
    with averaged_weights(state.model, state.optimizer):
        for have, want in zip(state.model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(have, want)
