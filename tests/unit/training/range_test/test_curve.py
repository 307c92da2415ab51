"""The curve of a range test suggests rates where the loss falls, and none where it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.training.range_test.curve import RateCurve, grow_rates, has_diverged

RATES = grow_rates(1e-6, 1.0, 200)


def valley(steepest: float, minimum: float, noise: float = 0.0, seed: int = 0) -> RateCurve:
    """Builds a curve that falls from 2.3 to 0.5 around the one rate, and grows again beyond the other."""
    logs = np.log10(RATES)
    falling = 1.8 / (1 + np.exp(6 * (logs - math.log10(steepest))))
    losses = 0.5 + falling + 0.2 * (logs - math.log10(minimum)) ** 2 * (logs > math.log10(minimum))
    losses += 0.02 * np.maximum(math.log10(minimum) - logs, 0)  # so that there is one minimum
    losses += np.random.default_rng(seed).normal(0, noise, len(losses))
    return RateCurve.of(RATES, losses.tolist())


@given(seed=st.integers(0, 1000), steepest=st.floats(1e-4, 1e-3), factor=st.floats(20, 60))
def test_suggestions_lie_near_the_steepest_fall_and_a_tenth_of_the_minimum(
    seed: int, steepest: float, factor: float
) -> None:
    curve = valley(steepest, steepest * factor, noise=0.01, seed=seed)
    assert curve.learns
    assert curve.steepest_rate is not None
    assert curve.tenth_of_lowest_rate == curve.lowest_loss_rate / 10
    assert 1 / 1.5 < curve.steepest_rate / steepest < 1.5
    # The valley is flat: at half the rate its loss is 0.012 above the minimum, and noise moves that by 0.005.
    assert 1 / 5 < curve.lowest_loss_rate / (steepest * factor) < 2


@pytest.mark.parametrize("losses", [np.full(200, 2.3), np.linspace(2.3, 9.0, 200)])
def test_a_loss_that_never_falls_suggests_nothing(losses: np.ndarray) -> None:
    noisy = losses + np.random.default_rng(0).normal(0, 0.05, 200)
    curve = RateCurve.of(RATES, noisy.tolist())
    assert not curve.learns
    assert curve.steepest_rate is None
    assert curve.tenth_of_lowest_rate is None


def test_smoothing_moves_no_minimum() -> None:
    curve = RateCurve.of(RATES, ((np.arange(200) - 120.0) ** 2).tolist())
    assert curve.smoothed().argmin() == 120


def test_steps_after_the_last_finite_loss_are_left_out() -> None:
    curve = RateCurve.of(RATES, [2.3, 2.0, 1.5, math.nan])
    assert curve.losses == (2.3, 2.0, 1.5)
    assert curve.rates == RATES[:3]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.3, math.nan], True),
        ([2.3, math.inf], True),
        ([2.3] * 4, False),
        ([2.0] * 9 + [20.0], False),  # one batch of five: their mean is 5.6
        ([2.0] * 5 + [0.4] * 5 + [2.0] * 5, True),
        ([2.0] * 5 + [0.6] * 5 + [2.0] * 5, False),
    ],
)
def test_divergence_is_four_times_the_lowest_loss_of_five_steps(losses: list[float], expected: bool) -> None:
    assert has_diverged(losses) == expected
