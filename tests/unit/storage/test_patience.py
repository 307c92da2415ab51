"""An operation is repeated while an outage lasts, for a stated time, and says so in two lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnnlib.errors import ConfigError
from cnnlib.storage import patience
from cnnlib.storage.patience import WAIT_VARIABLE, Outage, keep_trying, storage_wait_s


class Clock:
    """A clock that only moves while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def failing(times: int) -> Callable[[], str]:
    """Returns an operation that fails so many times, then works."""
    left = [OSError("no")] * times

    def operate() -> str:
        if left:
            raise left.pop()
        return "done"

    return operate


def outage(err: Exception) -> Outage | None:
    return Outage("gone") if isinstance(err, OSError) else None


def test_some_failures_may_only_come_a_few_times_in_a_row(clock: Clock) -> None:
    assert keep_trying(failing(2), lambda _: Outage("silent", 3)) == "done"
    with pytest.raises(OSError, match="no"):
        keep_trying(failing(3), lambda _: Outage("silent", 3))
    assert len(clock.pauses) == 4


def test_outage_of_a_minute_and_a_half_is_survived_with_one_line_at_each_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keep_trying(failing(14), outage) == "done"
    assert 60 < clock.now < 120
    first, last = capsys.readouterr().err.splitlines()
    assert first == 'storage note="storage does not answer (gone); trying for another 120 s"'
    assert last == f'storage note="storage answers again after {clock.now:.0f} s"'


def test_pauses_grow_to_ten_seconds_and_end_with_the_time(clock: Clock) -> None:
    with pytest.raises(OSError, match="no"):
        keep_trying(failing(1000), outage)
    assert clock.now == pytest.approx(120)
    assert 0.25 <= clock.pauses[0] <= 0.5
    assert 5 <= max(clock.pauses) <= 10
    assert len(clock.pauses) < 40


def test_next_outage_is_told_again(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            keep_trying(failing(1000), outage)
        assert capsys.readouterr().err.count("does not answer") == 1


def test_error_that_time_does_not_mend_is_raised_at_once(clock: Clock) -> None:
    def refuse() -> None:
        raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        keep_trying(refuse, outage)
    assert clock.pauses == []


def test_refusal_after_an_outage_is_an_answer(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    errors: list[Exception] = [ValueError("not there"), OSError("no")]

    def operate() -> None:
        raise errors.pop()

    with pytest.raises(ValueError, match="not there"):
        keep_trying(operate, outage)
    assert "storage answers again" in capsys.readouterr().err


def test_the_time_is_set_by_a_variable(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_VARIABLE, "0")
    with pytest.raises(OSError, match="no"):
        keep_trying(failing(1), outage)
    monkeypatch.setenv(WAIT_VARIABLE, "7.5")
    with pytest.raises(OSError, match="no"):
        keep_trying(failing(1000), outage)
    assert clock.now == pytest.approx(7.5)


@pytest.mark.parametrize("text", ["two minutes", "-1", "nan", "inf"])
def test_variable_that_is_no_number_of_seconds_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_VARIABLE, text)
    with pytest.raises(ConfigError, match="CNNLIB_STORAGE_WAIT_S must be a number of seconds"):
        storage_wait_s()
