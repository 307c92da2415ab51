"""The losses of a learning-rate range test in, the learning rates that they suggest out. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_WIDTH = 1 / 40  # of the test: standard deviation of the smoothing
_NOISE = 2.0  # standard errors by which the loss must fall for a fall to count
_DIVERGED = 4.0
_RECENT = 5
_MARGIN = 10.0


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """The loss of every step of a range test (Smith 2017, section 3.3), each with its learning rate.

    Attributes:
        rates: of the steps, each larger than the one before.
        losses: the mean loss of each step's batch, before its update; finite.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @classmethod
    def of(cls, rates: Sequence[float], losses: Sequence[float]) -> RateCurve:
        """Builds the curve of the steps that were trained, without the last ones if their losses are not finite."""
        finite = [loss for loss in losses if math.isfinite(loss)]
        return cls(rates=tuple(rates[: len(finite)]), losses=tuple(finite))

    def smoothed(self) -> Floats:
        """Returns the losses as means of their neighbours, with weights of a normal distribution: float64 [steps].

        It looks to both sides: a running mean lags behind, and would suggest rates that are too high.
        """
        steps = np.arange(len(self.losses))
        width = max(1.0, _WIDTH * len(steps))
        weights = np.exp(-0.5 * ((steps[:, None] - steps) / width) ** 2)
        return np.asarray(weights @ np.array(self.losses) / weights.sum(axis=1))

    @property
    def learns(self) -> bool:
        """True if the loss falls by more than the noise of its steps."""
        smoothed = self.smoothed()
        fall = smoothed[: int(smoothed.argmin()) + 1].max() - smoothed.min()
        # Neighbouring steps differ by the noise of both, whatever the slope.
        noise = float(np.std(np.diff(self.losses)[: len(self.losses) // 4])) / math.sqrt(2)
        return bool(fall > _NOISE * noise)

    @property
    def lowest_loss_rate(self) -> float:
        """The learning rate at the minimum of the smoothed loss."""
        return self.rates[int(self.smoothed().argmin())]

    @property
    def steepest_rate(self) -> float | None:
        """The learning rate at which the smoothed loss falls fastest per factor; None: it does not fall."""
        if not self.learns:
            return None
        smoothed = self.smoothed()
        slopes = np.gradient(smoothed, np.log(self.rates))
        return self.rates[int(slopes[: max(int(smoothed.argmin()), 1)].argmin())]

    @property
    def tenth_of_lowest_rate(self) -> float | None:
        """A tenth of the learning rate at the minimum; None: the loss does not fall."""
        return self.lowest_loss_rate / _MARGIN if self.learns else None


def grow_rates(lowest: float, highest: float, steps: int) -> tuple[float, ...]:
    """Returns learning rates that grow by the same factor, so that every order of magnitude has as many steps.

    Smith lets them grow linearly, between bounds that are already near.

    >>> [round(rate, 6) for rate in grow_rates(0.001, 0.1, 3)]
    [0.001, 0.01, 0.1]
    """
    return tuple(np.geomspace(lowest, highest, steps).tolist())


def has_diverged(losses: Sequence[float]) -> bool:
    """Returns whether the losses of the last steps are four times the lowest ones, or one is not finite.

    >>> has_diverged([2.0] * 5 + [0.5] * 5 + [1.9] * 5), has_diverged([2.0] * 5 + [0.5] * 5 + [2.1] * 5)
    (False, True)
    """
    if not all(map(math.isfinite, losses)):
        return True
    if len(losses) < _RECENT:
        return False
    means = np.convolve(losses, np.full(_RECENT, 1 / _RECENT), mode="valid")
    return bool(means[-1] > _DIVERGED * means.min())
