"""The model of what an epoch costs, against numbers worked out by hand."""

from __future__ import annotations

import doctest

import pytest

from cnnlib.bench import cost_model
from cnnlib.bench.cost_model import Hardware, Workload, efficiency, epoch_s, main, step_cost

HARDWARE = Hardware(row_s=0.01, step_s=0.5, read_bytes_per_s=7840.0, network_bytes_per_s=100.0, hop_s=0.1)
WORKLOAD = Workload(rows=100, height=28, width=28, channels=1, batch_size=8, gradient_bytes=200)


def test_examples_hold() -> None:
    assert doctest.testmod(cost_model).failed == 0


def test_a_step_costs_what_it_does_by_hand() -> None:
    cost = step_cost(WORKLOAD, HARDWARE, workers=4)
    assert cost.compute_s == pytest.approx(2 * 0.01)
    assert cost.ingest_s == pytest.approx(2 * 784 / 7840)
    assert cost.all_reduce_s == pytest.approx(2 * 3 / 4 * 200 / 100 + 2 * 3 * 0.1)
    assert cost.seconds == pytest.approx(0.2 + 3.6 + 0.5)
    assert epoch_s(WORKLOAD, HARDWARE, 4) == pytest.approx(12 * 4.3)


def test_one_worker_reduces_nothing_and_is_as_efficient_as_itself() -> None:
    assert step_cost(WORKLOAD, HARDWARE, 1).all_reduce_s == 0
    assert efficiency(WORKLOAD, HARDWARE, 1) == 1


def test_the_tables_of_the_document_are_the_ones_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    for line in ("| 16 | 14.6 | 4,120 | 47% | compute |", "| 64 | 27.5 | 2,179 | 6% | all-reduce |"):
        assert line in printed
