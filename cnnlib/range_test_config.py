"""The config of a learning-rate range test: a frozen, keyword-only dataclass; stdlib only, as config.py."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlib.config_checks import check_above_0, check_at_least
from cnnlib.errors import ConfigError

_FEWEST_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class RangeTestConfig:
    """Which learning rates are tried."""

    lowest: float = 1e-6
    """The learning rate of the first step, as --learning-rate gives it: --scale-learning-rate-from scales it."""
    highest: float = 1.0
    """The learning rate of the last step. The test ends before, once the loss has grown to four times its minimum."""
    steps: int = 200
    """Training steps; the learning rate grows by the same factor after each."""

    def __post_init__(self) -> None:
        check_above_0("test.lowest", self.lowest)
        check_above_0("test.highest", self.highest)
        check_at_least("test.steps", self.steps, _FEWEST_STEPS)
        if self.lowest >= self.highest:
            raise ConfigError(
                f"test.lowest must be less than test.highest. Received {self.lowest} and {self.highest}."
            )
