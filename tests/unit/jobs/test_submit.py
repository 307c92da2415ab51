"""Tests the command line of `python -m jobs.submit`; integration/test_cluster.py tests it on a real cluster."""

from __future__ import annotations

import os

import pytest

from cnnlib.cluster.submit import Outcome, Submission
from jobs import submit

ADDRESS = "http://head:8265"


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Submission, float | None]]:
    """Records submissions instead of sending them; every job exits with 3."""
    calls: list[tuple[Submission, float | None]] = []

    def run_submission(submission: Submission, timeout_s: float | None) -> Outcome:
        calls.append((submission, timeout_s))
        return Outcome(submission_id="slot", status="FAILED", exit_code=3)

    monkeypatch.setattr(submit, "run_submission", run_submission)
    return calls


def test_command_line_becomes_a_submission(
    submitted: list[tuple[Submission, float | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--submission-id",
        "slot",
        "--working-dir",
        ".",
        "--timeout-s",
        "60",
        "--env",
        "A=1",
        "B=2",
        "--json",
    ]
    assert (
        submit.main(["--address", ADDRESS, *flags, "--", "python", "-m", "jobs.report", "--json", "--", "x"])
        == 3
    )
    expected = Submission(
        address=ADDRESS,
        command=("python", "-m", "jobs.report", "--json", "--", "x"),
        submission_id="slot",
        working_dir=".",
        env={"A": "1", "B": "2"},
    )
    assert submitted == [(expected, 60.0)]
    assert capsys.readouterr().out == '{"submission_id": "slot", "status": "FAILED", "exit_code": 3}\n'


def test_given_address_wins_over_the_environments(
    submitted: list[tuple[Submission, float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray's client would prefer this variable. And without an address, a job generates a token of its own.
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:8265")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    submit.main(["--address", ADDRESS, "--", "true"])
    assert (os.environ["RAY_ADDRESS"], os.environ["RAY_API_SERVER_ADDRESS"]) == (ADDRESS, ADDRESS)
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--address", "head:8265", "--", "true"], "Expected the URL of a dashboard"),
        (["--address", ADDRESS], "No command to run"),
        (["--address", ADDRESS, "--"], "No command to run"),
        (["--address", ADDRESS, "--env", "1A=x", "--", "true"], "Expected NAME=VALUE"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    submitted: list[tuple[Submission, float | None]],
    argv: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert submit.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}")
    assert captured.err.count("\n") == 1
    assert submitted == []


def test_timeout_must_be_above_zero(capsys: pytest.CaptureFixture[str]) -> None:
    # Refused before any connection is tried.
    assert submit.main(["--address", ADDRESS, "--timeout-s", "0", "--", "true"]) == 2
    assert capsys.readouterr().err == "error: timeout_s must be above 0. Received 0.0.\n"


def test_command_line_is_as_promised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        submit.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    flags = ["--address", "--submission-id", "--working-dir", "--timeout-s", "--env", "--json"]
    assert all(f"{flag} " in shown for flag in flags)
