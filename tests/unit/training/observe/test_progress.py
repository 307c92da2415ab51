"""Tests what a person sees while a run goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.experimental import tqdm_ray

from cnnlib.training.observe import progress
from cnnlib.training.observe.progress import LiveBar, LogLines, Throughput


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only the test moves, in seconds."""
    hand = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: hand.now))
    return hand


@pytest.fixture
def throughput(clock: SimpleNamespace) -> Throughput:
    """A throughput after 4 s, in which 1,000 rows were trained on; 1 s of them was spent waiting."""
    measured = Throughput()
    for rows, waited_s in ((600, 0.75), (400, 0.25)):
        measured.add_wait(waited_s)
        measured.add_rows(rows)
    clock.now += 4.0
    return measured


def test_throughput_is_rows_and_waiting_per_time(throughput: Throughput, clock: SimpleNamespace) -> None:
    assert (throughput.seconds, throughput.images_per_s, throughput.data_wait) == (4.0, 250.0, 0.25)
    clock.now += 4.0
    assert (throughput.seconds, throughput.images_per_s, throughput.data_wait) == (8.0, 125.0, 0.125)


def test_stopped_throughput_stays_as_it_is(throughput: Throughput, clock: SimpleNamespace) -> None:
    throughput.stop()
    clock.now += 4.0
    assert (throughput.seconds, throughput.images_per_s, throughput.data_wait) == (4.0, 250.0, 0.25)


def test_throughput_of_no_time_is_no_division_by_zero(clock: SimpleNamespace) -> None:
    nothing = Throughput()
    assert (nothing.seconds, nothing.images_per_s, nothing.data_wait) == (0.0, 0.0, 0.0)


def lines(
    every: int, calls: list[int], throughput: Throughput, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Returns the lines that are logged when the calls of a run end at these steps."""
    log = LogLines(every, epochs=3)
    for step in calls:
        log.update(epoch=2, step=step, loss=0.5, accuracy=0.8125, throughput=throughput)
    log.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_line_has_everything_that_was_promised(
    throughput: Throughput, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(200, [200], throughput, capsys) == [
        "train step=200 epoch=2/3 loss=0.5 accuracy=0.8125 images_per_s=250 data_wait=0.25"
    ]


@pytest.mark.parametrize(
    ("every", "calls", "logged"),
    [
        (200, list(range(25, 1001, 25)), [25, 200, 400, 600, 800, 1000]),
        (200, list(range(30, 631, 30)), [30, 210, 420, 600]),
        (10, [25, 50, 75], [25, 50, 75]),
        (200, [25, 50], [25]),
        (100, [450, 475, 500], [450, 500]),
        (1, [1, 2, 3], [1, 2, 3]),
    ],
)
def test_a_line_comes_when_so_many_steps_have_passed(
    every: int,
    calls: list[int],
    logged: list[int],
    throughput: Throughput,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = lines(every, calls, throughput, capsys)
    assert [int(line.split("step=")[1].split()[0]) for line in written] == logged


class FakeBar:
    """Stands in for Ray's bar, which needs a cluster."""

    def __init__(self, **options: Any) -> None:
        self.options, self.n, self.descriptions, self.closed = options, 0, [options["desc"]], False

    def set_description(self, text: str) -> None:
        self.descriptions.append(text)

    def close(self) -> None:
        self.closed = True


def test_live_bar_moves_through_the_whole_run(
    monkeypatch: pytest.MonkeyPatch, throughput: Throughput
) -> None:
    bars: list[FakeBar] = []
    monkeypatch.setattr(tqdm_ray, "tqdm", lambda **options: bars.append(FakeBar(**options)) or bars[-1])
    live = LiveBar(total_steps=30, epochs=3)
    (bar,) = bars
    assert (bar.options["total"], bar.n) == (30, 0)
    live.update(epoch=2, step=18, loss=0.51234, accuracy=0.8125, throughput=throughput)
    live.update(epoch=2, step=20, loss=0.5, accuracy=0.75, throughput=throughput)
    assert bar.n == 20
    assert bar.descriptions[1:] == [
        "epoch 2/3 loss 0.512 accuracy 0.812 250 images/s, 25% waiting for data",
        "epoch 2/3 loss 0.500 accuracy 0.750 250 images/s, 25% waiting for data",
    ]
    assert not bar.closed
    live.close()
    assert bar.closed


def test_rays_bar_has_what_the_live_bar_uses() -> None:
    for name in ("n", "set_description", "close"):
        assert hasattr(tqdm_ray.tqdm, name)
