"""A program to measure: how it is started, and which of its figures counts."""

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
    """One line of a program's output, and when it came, in seconds since the program was started."""

    text: str
    at_s: float
    is_result: bool


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that ended well: its lines in the order of their arrival, and its seconds from start to exit."""

    lines: tuple[Line, ...]
    seconds: float

    @property
    def result(self) -> Any:
        """The JSON on the last line of stdout."""
        return json.loads([line.text for line in self.lines if line.is_result][-1])


Figure = Callable[[Finished], float]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program and its figure.

    Attributes:
        name: as the table calls it.
        arguments: of the Python interpreter. `{fresh}` is a new folder for every run, `{idx:600}` and the like are
            inputs made beforehand: see inputs.py.
        figure: what is taken of a run.
        python: the interpreter.
        gpu: the GPUs it may see, as CUDA_VISIBLE_DEVICES has them; empty: none.
    """

    name: str
    arguments: tuple[str, ...]
    figure: Figure
    python: str = sys.executable
    gpu: str = ""

    def resolve(self, paths: Mapping[str, str]) -> Program:
        """The program with every placeholder's path filled in."""
        arguments = tuple(paths.get(each, each) for each in self.arguments)
        return replace(self, arguments=arguments)


def reported(path: str, scale: float = 1.0) -> Figure:
    """The figure a program prints: `figures.images_per_s` of the JSON on the last line of stdout, times `scale`."""

    def read(done: Finished) -> float:
        value = done.result
        for key in path.split("."):
            value = value[key]
        return float(value) * scale

    return read


def whole_command(done: Finished) -> float:
    """Seconds from the program's start to its exit."""
    return done.seconds


def until_line(*marks: str) -> Figure:
    """Seconds until the first line with the first mark arrives; where no line has it, with the next mark."""

    def read(done: Finished) -> float:
        for mark in marks:
            for line in done.lines:
                if mark in line.text:
                    return line.at_s
        raise CnnlibError(f"The program printed no line with {' or '.join(map(repr, marks))}.")

    return read


def run_program(program: Program) -> Finished:
    """Runs a program to its end, in the repository, with this process's cores.

    Raises:
        CnnlibError: it failed, or ran for an hour.
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
        raise CnnlibError(f"{program.name} failed with exit code {code}: {_last_words(lines)}")
    return Finished(lines=tuple(lines), seconds=seconds)


def take_figure(figure: Figure, done: Finished, name: str) -> float:
    """Takes a figure of a run.

    Raises:
        CnnlibError: the program did not print what was expected.
    """
    try:
        return figure(done)
    except (IndexError, KeyError, TypeError, ValueError) as err:
        raise CnnlibError(
            f"{name} printed no figure: {type(err).__name__}: {err}. Its last words: {_last_words(done.lines)}"
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
    """Ends a program that still runs: first so that it can take its own processes along."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(lines: Sequence[Line]) -> str:
    noise = [line.text for line in lines if not line.is_result] or [line.text for line in lines]
    return noise[-1] if noise else "no message"
