"""Functions are measured in turns, often enough and not for ever."""

from __future__ import annotations

import time

import pytest

from cnnlib.export import latency
from cnnlib.export.latency import measure_latency


def test_functions_are_called_in_turns_and_the_slow_one_takes_longer() -> None:
    calls: list[str] = []

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.003)

    times = measure_latency({"slow": slow, "fast": lambda: calls.append("fast")})
    assert calls == ["slow", "fast"] * (len(calls) // 2)
    assert times["slow"]["rounds"] == times["fast"]["rounds"] == 100
    assert times["slow"]["median_ms"] >= 3
    for each in times.values():
        assert each["quartile_1_ms"] <= each["median_ms"] <= each["quartile_3_ms"]
    assert times["fast"]["median_ms"] < times["slow"]["quartile_1_ms"]


def test_a_slow_model_is_measured_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_MOST_S", 0.02)
    times = measure_latency({"slow": lambda: time.sleep(0.01)})
    assert times["slow"]["rounds"] == 5
