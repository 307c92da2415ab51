"""Functions in, how long a call of each takes out: measured in turns, so that a disturbance meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

_WARM_UP_ROUNDS = 3
_MOST_ROUNDS, _FEWEST_ROUNDS = 100, 5
_MOST_S = 5.0
_DIGITS = 4


class Latency(TypedDict):
    """Times of a call, in milliseconds: the median and the quartiles of so many rounds."""

    rounds: int
    median_ms: float
    quartile_1_ms: float
    quartile_3_ms: float


def measure_latency(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Latency]:
    """Calls every function once in every round: 100 rounds, or as many as 5 s allow, but at least 5."""
    for _ in range(_WARM_UP_ROUNDS):
        for call in calls.values():
            call()
    times_ms: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    for round_index in range(_MOST_ROUNDS):
        if round_index >= _FEWEST_ROUNDS and time.perf_counter() - started > _MOST_S:
            break
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            times_ms[name].append(1000 * (time.perf_counter() - before))
    return {name: _summarize(of_call) for name, of_call in times_ms.items()}


def _summarize(times_ms: Sequence[float]) -> Latency:
    low, median, high = (round(each, _DIGITS) for each in statistics.quantiles(times_ms, n=4))
    return {"rounds": len(times_ms), "median_ms": median, "quartile_1_ms": low, "quartile_3_ms": high}
