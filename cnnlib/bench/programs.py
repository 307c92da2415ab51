"""Runs a program that is to be measured, and takes one measurement from its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from cnnlib.errors import CnnlibError

REPOSITORY = Path(__file__).parents[2]
_TIMEOUT_S = 3600.0
_STOP_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """Holds one line of a program's output.

    Attributes:
        at_s: seconds from the start of the program to the arrival of the line.
        is_result: True for stdout, False for stderr.
    """

    text: str
    at_s: float
    is_result: bool


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Holds the output of a program that exited with code 0.

    Attributes:
        lines: all lines, in the order of their arrival.
        seconds: time from start to exit.
    """

    lines: tuple[Line, ...]
    seconds: float

    @property
    def result(self) -> Any:
        """The JSON on the last line of stdout."""
        return json.loads([line.text for line in self.lines if line.is_result][-1])


Measurement = Callable[[Finished], float]
"""Reads one number from a finished program."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """Describes a Python program and what to measure of it.

    Attributes:
        name: the name in tables and messages.
        arguments: arguments of the Python interpreter. `{fresh}` stands for a new folder in every run; `{idx:600}` and
            the like stand for inputs that inputs.py writes before the run.
        measurement: reads the measured number from a finished run.
        python: path of the interpreter.
        gpu: the value of CUDA_VISIBLE_DEVICES; empty hides all GPUs.
    """

    name: str
    arguments: tuple[str, ...]
    measurement: Measurement
    python: str = sys.executable
    gpu: str = ""

    def resolve(self, paths: Mapping[str, str]) -> Program:
        """Returns the program with paths in place of its placeholders."""
        arguments = tuple(paths.get(each, each) for each in self.arguments)
        return replace(self, arguments=arguments)


def reported(path: str, scale: float = 1.0) -> Measurement:
    """Returns a measurement that the program itself prints, as JSON on the last line of stdout.

    Args:
        path: keys from the outer object to the number, joined by dots.
        scale: factor for the printed number.
    """

    def read(done: Finished) -> float:
        value = done.result
        for key in path.split("."):
            value = value[key]
        return float(value) * scale

    return read


def whole_command(done: Finished) -> float:
    """Returns the seconds from the start of the program to its exit."""
    return done.seconds


def until_line(*marks: str) -> Measurement:
    """Returns a measurement of the seconds until the first line that contains a mark.

    Args:
        marks: the texts to look for. A later mark counts only if no line contains an earlier one.
    """

    def read(done: Finished) -> float:
        for mark in marks:
            for line in done.lines:
                if mark in line.text:
                    return line.at_s
        raise CnnlibError(f"The program printed no line with {' or '.join(map(repr, marks))}.")

    return read


def run_program(program: Program) -> Finished:
    """Runs a program in the root of the repository, pinned to the cores of this process, and waits for its exit.

    Raises:
        CnnlibError: the program failed, or did not end within an hour.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [program.python, *program.arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=REPOSITORY,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "CUDA_VISIBLE_DEVICES": program.gpu},
    )
    lines: list[Line] = []
    readers = [
        _start_reader(process.stdout, lines, started, is_result=True),
        _start_reader(process.stderr, lines, started, is_result=False),
    ]
    try:
        code = process.wait(_TIMEOUT_S)
    except subprocess.TimeoutExpired as err:
        raise CnnlibError(f"{program.name} did not end within {_TIMEOUT_S:.0f} s.") from err
    finally:
        _stop(process)
    seconds = time.perf_counter() - started
    for reader in readers:
        reader.join(_STOP_S)
    if code:
        raise CnnlibError(f"{program.name} failed with exit code {code}: {_last_line(lines)}")
    return Finished(lines=tuple(lines), seconds=seconds)


def take_measurement(measurement: Measurement, done: Finished, name: str) -> float:
    """Takes a measurement from a finished run.

    Args:
        name: the program's name, for the message of the error.

    Raises:
        CnnlibError: the program did not print the expected output.
    """
    try:
        return measurement(done)
    except (IndexError, KeyError, TypeError, ValueError) as err:
        raise CnnlibError(
            f"{name} printed no measurement: {type(err).__name__}: {err}. Its last line: {_last_line(done.lines)}"
        ) from err


def _start_reader(
    stream: IO[str] | None, lines: list[Line], started: float, *, is_result: bool
) -> threading.Thread:
    assert stream is not None

    def read() -> None:
        for text in stream:
            if text.strip():
                lines.append(
                    Line(text=text.rstrip(), at_s=time.perf_counter() - started, is_result=is_result)
                )

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends a program that still runs."""
    if process.poll() is not None:
        return
    process.terminate()  # before kill(), so that the program can end its own child processes
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(lines: Sequence[Line]) -> str:
    texts = [line.text for line in lines if not line.is_result] or [line.text for line in lines]
    return texts[-1] if texts else "no output"
