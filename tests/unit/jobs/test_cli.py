"""Tests the flags, exit codes and streams that all jobs share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from cnnlib.errors import CnnlibError, ConfigError, NotFoundError, StorageError, TrainingError
from jobs.cli import Finished, run_job, show
from jobs.flags import join_lists, parse_args

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Flags of a test."""

    batch_size: int = 32
    """Rows of one step."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1. Received {self.batch_size}.")


def fail(error: BaseException) -> None:
    raise error


def parse(*argv: str, default: Args | None = None) -> Args:
    return parse_args(Args, argv, prog="python -m jobs.test", description="A test.", default=default)


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Flags that take a range."""

    workers: int = 1
    """Most."""
    min_workers: int | None = None
    """Fewest."""
    pixel_range: str = "0-255"
    """Range."""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--workers", "1..4"], Ranges(workers=4, min_workers=1)),
        (["--workers=2..12"], Ranges(workers=12, min_workers=2)),
        (["--workers", "3"], Ranges(workers=3)),
        (
            ["--pixel-range", "-1..1", "--workers", "1..2"],
            Ranges(workers=2, min_workers=1, pixel_range="-1..1"),
        ),
    ],
)
def test_ranges_are_read(argv: list[str], expected: Ranges) -> None:
    assert parse_args(Ranges, argv, prog="test", description=None) == expected


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Flags of several values."""

    checkpoint: tuple[str, ...] = ()
    """Several."""
    slice_by: tuple[str, ...] = ()
    """Several."""
    gate: str | None = None
    """One."""
    top_k: int = 3
    """One."""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--checkpoint a b", Lists(checkpoint=("a", "b"))),
        ("--checkpoint a --checkpoint b", Lists(checkpoint=("a", "b"))),
        (
            "--checkpoint a --top-k 1 --checkpoint=b=c --slice-by x",
            Lists(checkpoint=("a", "b=c"), top_k=1, slice_by=("x",)),
        ),
        (
            "--slice_by x --checkpoint a b --slice-by=y --checkpoint c",
            Lists(checkpoint=("a", "b", "c"), slice_by=("x", "y")),
        ),
        ("--top-k 1 --top-k 2", Lists(top_k=2)),
    ],
)
def test_values_of_a_flag_that_is_given_twice_are_all_read(argv: str, expected: Lists) -> None:
    assert parse_args(Lists, argv.split(), prog="test", description=None) == expected


def test_of_two_gates_none_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_args(Lists, ["--gate", "a.toml", "--gate=b.toml"], prog="test", description=None)
    assert stopped.value.code == 2
    assert "error: --gate takes one value. Received it 2 times." in capsys.readouterr().err


def test_what_follows_two_minuses_stays_as_it_is() -> None:
    words = ["--env", "A=1", "--env", "B=2", "--", "train", "--env", "C=3", "--env", "D=4"]
    assert join_lists(words) == ["--env", "A=1", "B=2", "--", "train", "--env", "C=3", "--env", "D=4"]


@pytest.mark.parametrize("word", ["1..", "..4", "a..b", "-1..4", "1.5"])
def test_what_is_no_range_of_workers_is_refused(word: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_args(Ranges, ["--workers", word], prog="test", description=None)
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("bad"), 2),
        (NotFoundError("bad"), 2),
        (StorageError("bad"), 1),
        (TrainingError("bad"), 1),
        (CnnlibError("bad"), 1),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_expected_error_is_one_line_and_an_exit_code(
    error: CnnlibError, code: int, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job(lambda: fail(error), json=as_json) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: bad\n")


def test_error_of_several_lines_is_printed_on_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: fail(ConfigError("bad:\n  line two")), json=False) == 2
    assert capsys.readouterr().err == "error: bad: line two\n"


def test_interrupted_job_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: fail(KeyboardInterrupt()), json=False) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_fault_of_this_project_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_job(lambda: fail(ZeroDivisionError()), json=False)


def test_json_is_one_object_and_everything_else_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> dict[str, object]:
        print("a library talks")  # noqa: T201
        show("a table")
        return {"accuracy": 0.1, "at": datetime(2026, 11, 22, tzinfo=UTC), "none": None, "name": "ü\n"}

    assert run_job(job, json=True) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out) == {
        "accuracy": 0.1,
        "at": "2026-11-22T00:00:00+00:00",
        "none": None,
        "name": "ü\n",
    }
    assert captured.err.split("\n") == ["a library talks", "a table", "", ""]


def test_a_thread_that_goes_on_printing_neither_delays_the_end_nor_changes_the_result() -> None:
    program = """
import atexit, sys, threading
from jobs.cli import exit_with, run_job
def talk():
    while True:
        sys.stderr.write("a library talks on\\n")
        sys.stderr.flush()
threading.Thread(target=talk, daemon=True).start()
atexit.register(print, "a library says goodbye")
exit_with(run_job(lambda: {"rows": 3}, json=True) + 7)
"""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (7, '{"rows": 3}\n')


@pytest.mark.parametrize("code", [0, 3, 77])
def test_job_that_is_done_may_set_its_exit_code(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: Finished(result={"verdict": "fail"}, exit_code=code), json=True) == code
    assert capsys.readouterr().out == '{"verdict": "fail"}\n'


def test_job_without_a_result_prints_an_empty_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: None, json=True) == 0
    assert capsys.readouterr().out == "{}\n"


def test_without_json_the_result_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: {"accuracy": 0.1}, json=False) == 0
    assert capsys.readouterr().out == ""


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    values = [float("nan"), float("inf"), -float("inf"), np.float64("nan"), 0.5, 3, True, None, "NaN"]
    result = {"metrics": {"loss": float("nan")}, "values": values, "pair": (float("nan"), 1)}
    assert run_job(lambda: result, json=True) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "metrics": {"loss": None},
        "values": [None, None, None, None, 0.5, 3, True, None, "NaN"],
        "pair": [None, 1],
    }


def test_result_that_is_not_json_is_a_fault() -> None:
    with pytest.raises(TypeError):
        run_job(lambda: {"value": object()}, json=True)


def test_tables_are_plain_where_stdout_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name")
    table.add_row("[bold]x[/bold]", style="red")
    show(table)
    assert "\x1b" not in capsys.readouterr().out


def test_text_that_stdout_cannot_show_is_escaped() -> None:
    code = (
        "from jobs.cli import run_job, show; import sys\n"
        "sys.exit(run_job(lambda: show('a class called ümlaut 猫'), json=False))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "a class called \\xfcmlaut \\u732b\n\n"), done.stderr


def test_flags_fill_the_dataclass() -> None:
    assert parse("--batch-size", "8") == Args(batch_size=8)
    assert parse() == Args()
    assert parse(default=Args(batch_size=5)) == Args(batch_size=5)


def test_unknown_flag_exits_two_and_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("--batchsize", "8")
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--batch-size" in captured.err


@pytest.mark.parametrize(
    ("value", "message"), [("many", "invalid"), ("0", "error: batch_size must be at least 1")]
)
def test_bad_value_exits_two(value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("--batch-size", value)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_sigterm_unwinds_the_job_and_is_exit_code_143(capfd: pytest.CaptureFixture[str]) -> None:
    steps: list[str] = []
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            steps.append("stopped")

    assert run_job(work, json=False) == 143
    assert steps == ["stopped"]
    assert capfd.readouterr().err.strip() == "error: terminated"
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_is_exit_code_143_also_where_ray_waits_for_a_task(capfd: pytest.CaptureFixture[str]) -> None:
    def wait_as_ray_does() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except SystemExit:
            sys.exit(1)  # what ray.wait and ray.get make of it

    assert run_job(wait_as_ray_does, json=False) == 143
    assert capfd.readouterr().err.strip() == "error: terminated"


def test_other_ways_to_exit_are_left_alone() -> None:
    def leave() -> None:
        raise SystemExit(7)

    with pytest.raises(SystemExit) as raised:
        run_job(leave, json=False)
    assert raised.value.code == 7


@pytest.mark.parametrize(
    "command", ["train", "train seed", "evaluate", "report", "prepare idx", "submit", "bench"]
)
def test_help_of_which_the_first_line_is_read_ends_well(command: str) -> None:
    job, *words = command.split()
    process = subprocess.Popen(
        [sys.executable, "-m", f"jobs.{job}", *words, "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before it writes: it takes a while to start
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
