"""Compares the predicted time of steps and epochs with numbers calculated by hand."""

from __future__ import annotations

import doctest

import pytest

from cnnlib.bench import time_model
from cnnlib.bench.time_model import Hardware, Workload, efficiency, main, predict_epoch_s, predict_step_time

HARDWARE = Hardware(row_s=0.01, step_s=0.5, read_bytes_per_s=7840.0, network_bytes_per_s=100.0, hop_s=0.1)
WORKLOAD = Workload(rows=100, height=28, width=28, channels=1, batch_size=8, gradient_bytes=200)


def test_examples_hold() -> None:
    assert doctest.testmod(time_model).failed == 0


def test_a_step_takes_the_time_calculated_by_hand() -> None:
    time = predict_step_time(WORKLOAD, HARDWARE, workers=4)
    assert time.compute_s == pytest.approx(2 * 0.01)
    assert time.read_s == pytest.approx(2 * 784 / 7840)
    assert time.all_reduce_s == pytest.approx(2 * 3 / 4 * 200 / 100 + 2 * 3 * 0.1)
    assert time.seconds == pytest.approx(0.2 + 3.6 + 0.5)
    assert predict_epoch_s(WORKLOAD, HARDWARE, 4) == pytest.approx(12 * 4.3)


def test_one_worker_has_no_all_reduce_and_an_efficiency_of_one() -> None:
    assert predict_step_time(WORKLOAD, HARDWARE, 1).all_reduce_s == 0
    assert efficiency(WORKLOAD, HARDWARE, 1) == 1


def test_it_prints_the_tables_of_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    for line in ("| 16 | 14.6 | 4,120 | 47% | compute |", "| 64 | 27.5 | 2,179 | 6% | all-reduce |"):
        assert line in printed
