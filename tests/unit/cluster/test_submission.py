"""Tests the inputs, the log and the outcome of a submission without a cluster; integration/test_cluster.py uses one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from cnnlib.cluster import submit as submission
from cnnlib.cluster.submit import Submission, find_environment, find_exit_code
from cnnlib.errors import CnnlibError, ConfigError


@dataclass
class Head:
    """A fake head whose connections break.

    Attributes:
        connections: the texts that each log connection sends before it breaks, separated by |.
        log: the whole log.
        answers: the status or the error for each request of the job's info; the last repeats.
    """

    connections: list[str]
    log: str
    answers: list[str | Exception]
    stopped: list[str] = field(default_factory=list)

    async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        for text in self.connections.pop(0).split("|") if self.connections else []:
            yield text
        raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_logs(self, submission_id: str) -> str:
        return self.log

    def get_job_info(self, submission_id: str) -> SimpleNamespace:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        ended = answer in ("SUCCEEDED", "FAILED", "STOPPED")
        status = type("Status", (str,), {"is_terminal": lambda self: ended})(answer)
        return SimpleNamespace(status=status, driver_exit_code=3 if answer == "FAILED" else None)

    def stop_job(self, submission_id: str) -> None:
        self.stopped.append(submission_id)
        self.answers = ["STOPPED"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_POLL_S", 0.01)
    monkeypatch.setattr(submission, "_LOST_AFTER_S", 0.2)


@pytest.mark.parametrize(
    ("status", "driver_exit_code", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", -9, 137),
        ("FAILED", 0, 1),
        ("FAILED", None, 1),
        ("STOPPED", None, 1),
        ("STOPPED", 0, 1),
    ],
)
def test_exit_code_is_the_jobs_own(status: str, driver_exit_code: int | None, code: int) -> None:
    assert find_exit_code(status, driver_exit_code) == code


def test_environment_takes_values_from_the_words_or_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "from here")
    assert find_environment(["A=1=2", "EMPTY=", "HERE"]) == {"A": "1=2", "EMPTY": "", "HERE": "from here"}


@pytest.mark.parametrize("pair", ["NOT_SET_ANYWHERE", "has space=secret", "=secret", "1A=secret"])
def test_bad_environment_variable_is_named_by_its_number_only(pair: str) -> None:
    with pytest.raises(ConfigError, match="number 2") as raised:
        find_environment(["A=1", pair])
    assert "secret" not in str(raised.value)


def test_submission_shows_no_value_of_its_environment() -> None:
    shown = repr(Submission(address="http://head:8265", command=("true",), env={"KEY": "secret"}))
    assert "secret" not in shown


@pytest.mark.parametrize("address", ["head:8265", "auto", "ray://head:10001"])
def test_address_must_be_a_dashboards(address: str) -> None:
    with pytest.raises(ConfigError, match="http://HEAD:8265"):
        Submission(address=address, command=("true",))


def test_log_comes_once_over_connections_that_break(capsys: pytest.CaptureFixture[str]) -> None:
    head = Head(["one\n|tw", "one\n|two\n|thr"], "one\ntwo\nthree\n", ["RUNNING"] * 8 + ["FAILED"])
    outcome = asyncio.run(submission._wait(head, "slot", None))
    assert (outcome.status, outcome.exit_code) == ("FAILED", 3)
    assert capsys.readouterr().err == "one\ntwo\nthree\njob submission_id=slot status=FAILED exit_code=3\n"


def test_short_silence_of_the_head_is_waited_out() -> None:
    head = Head([], "", [ConnectionError("gone"), RuntimeError("502"), "SUCCEEDED"])
    assert asyncio.run(submission._wait(head, "slot", None)).exit_code == 0


def test_head_that_stays_silent_is_given_up_with_a_way_back() -> None:
    head = Head([], "", [ConnectionError("gone")])
    with pytest.raises(CnnlibError, match="slot may still run: the same command with --submission-id"):
        asyncio.run(submission._wait(head, "slot", None))


@pytest.mark.timeout(60)  # it waits until the job has stopped, not for all of _STOP_S
def test_job_that_runs_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_STOP_S", 3600)
    head = Head([], "", ["RUNNING"])
    with pytest.raises(CnnlibError, match=r"did not end within 0\.1 s and was stopped"):
        asyncio.run(submission._wait(head, "slot", 0.1))
    assert head.stopped == ["slot"]
