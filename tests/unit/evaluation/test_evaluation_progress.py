"""Tests the progress of an evaluation: it shows rows, rate and time left, on stderr only."""

from __future__ import annotations

import re

import pytest

from cnnlib.evaluation.progress import LiveBar, LogLines, Throughput, build_progress


class ManualClock:
    """A clock that a test sets."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_time_runs_from_when_the_first_rows_began_to_be_scored(clock: ManualClock) -> None:
    throughput = Throughput(1000, clock)
    clock.now += 60  # the predictors start, which says nothing about the rate
    throughput.add(100, seconds=2.0)
    assert throughput.images_per_s == pytest.approx(50)
    assert throughput.left_s == pytest.approx(900 / 50)
    clock.now += 8
    throughput.add(400, seconds=5.0)
    assert throughput.rows == 500
    assert throughput.images_per_s == pytest.approx(50)
    assert throughput.left_s == pytest.approx(10)


def test_time_between_two_passes_does_not_count(clock: ManualClock) -> None:
    throughput = Throughput(1000, clock)
    throughput.add(100, seconds=2.0)
    clock.now += 2
    throughput.add(100, seconds=2.0)
    throughput.pause()
    clock.now += 60  # the predictors of the next pass start
    assert throughput.images_per_s == pytest.approx(50)
    throughput.add(100, seconds=2.0)
    assert (throughput.rows, throughput.images_per_s) == (300, pytest.approx(50))
    assert throughput.left_s == pytest.approx(700 / 50)


def test_before_the_first_rows_no_time_is_known(clock: ManualClock) -> None:
    throughput = Throughput(1000, clock)
    clock.now += 60
    assert (throughput.rows, throughput.images_per_s, throughput.left_s) == (0, 0.0, None)


def test_rows_that_took_no_time_divide_by_no_zero(clock: ManualClock) -> None:
    throughput = Throughput(10, clock)
    throughput.add(10, seconds=0.0)
    assert throughput.images_per_s > 0
    assert throughput.left_s == 0


def test_lines_say_rows_rate_and_time_left(clock: ManualClock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = LogLines(20_000, clock)
    lines.update(5000, seconds=4.0)
    captured = capsys.readouterr()
    assert captured.err == "score rows=5000 of=20000 images_per_s=1250 left_s=12\n"
    assert captured.out == ""


def test_lines_come_at_most_every_ten_seconds(clock: ManualClock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = LogLines(1000, clock)
    for _ in range(100):
        clock.now += 0.5
        lines.update(10, seconds=0.5)
    lines.pause()
    lines.close()
    shown = [int(rows) for rows in re.findall(r"rows=(\d+)", capsys.readouterr().err)]
    assert shown == [10, 210, 410, 610, 810, 1000], "the last line comes at the end"


def test_live_bar_shows_rows_rate_and_time_left_on_stderr(
    clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = LiveBar(20_000, clock)
    assert capsys.readouterr().err == "", "nothing is drawn while the predictors start"
    bar.update(5000, seconds=4.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "evaluating:  25%|" in captured.err
    assert captured.err.endswith("| 5000/20000 rows, 1,250 images/s, 00:12 left")


def test_live_bar_clears_the_line_for_other_output(
    clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = LiveBar(100, clock)
    for end in (bar.pause, bar.close):
        bar.update(50, seconds=1.0)
        capsys.readouterr()
        end()
        cleared = capsys.readouterr().err
        assert cleared.endswith("\r")
        assert cleared.strip() == ""


@pytest.mark.parametrize(("live", "kind"), [(True, LiveBar), (False, LogLines)])
def test_a_bar_is_drawn_only_on_a_terminal(live: bool, kind: type) -> None:
    progress = build_progress(10, live=live)
    assert type(progress) is kind
    progress.close()
