"""Checks single values for all configs."""

from __future__ import annotations

import math

from cnnlib.errors import ConfigError


def check_at_least(name: str, value: int, minimum: int) -> None:
    """Raises a ConfigError, which names the flag, unless the value is at least the minimum."""
    if value < minimum:
        raise ConfigError(f"{name} must be at least {minimum}. Received {value}.")


def check_above_0(name: str, value: float) -> None:
    """Raises a ConfigError unless the value is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be above 0. Received {value}.")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises a ConfigError unless the value lies in low..high, ends included."""
    if not low <= value <= high:
        raise ConfigError(f"{name} must lie in {low:g}..{high:g}. Received {value}.")


def check_below_1(name: str, value: float) -> None:
    """Raises a ConfigError unless the value is at least 0 and below 1."""
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must be at least 0 and below 1. Received {value}.")
