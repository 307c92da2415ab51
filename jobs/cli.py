"""Runs a job: it prints results to stdout and everything else to stderr, and exits with one of these codes.

0    done
1    failed: storage, workers, or a bug of this project (then with a traceback)
2    the input cannot work: one line `error: …`; what was finished before, such as an epoch or a report, is kept
3    jobs.evaluate --gate: done, but a check failed; the gate may set another code
4    jobs.evaluate --gate: done, no check failed, but one is inconclusive; the gate may set another code
5    jobs.evaluate of several checkpoints: some could not be scored, each has a line `error: …`; the others are done
130  interrupted (Ctrl-C)
143  terminated (SIGTERM)

jobs.submit exits with the code of the job that it submitted.
"""

from __future__ import annotations

import io
import json as json_text
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from rich.console import Console, RenderableType

from cnnlib.cluster import local as local_ray
from cnnlib.errors import CnnlibError, InputError
from cnnlib.gate_config import GateConfig
from cnnlib.redact import redact

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_GATE_FAILED = GateConfig.fail_exit_code
EXIT_GATE_INCONCLUSIVE = GateConfig.inconclusive_exit_code
EXIT_LEFT_OUT = 5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

Result = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The result of a job that sets its own exit code.

    Attributes:
        result: JSON values.
        exit_code: the exit code of the job.
    """

    result: Result
    exit_code: int


def run_job(main: Callable[[], Result | Finished], *, json: bool) -> int:
    """Runs a job and returns its exit code.

    Args:
        main: does the job and returns its result: an object or a list of objects of JSON values and times; None for an
            empty object. A `Finished` also sets the exit code.
        json: print the result as JSON on one line, and nothing else, to stdout. NaN and infinity become null. What
            `show`, a library or a worker prints to stdout meanwhile goes to stderr.
    """
    local_ray.set_environment()
    _allow_any_text()
    stdout = sys.stdout
    terminated = threading.Event()
    try:
        with redirect_stdout(sys.stderr if json else stdout), _sigterm_unwinds(terminated):
            returned = main()
    except InputError as err:
        print_error(err)
        return EXIT_BAD_INPUT
    except CnnlibError as err:
        print_error(err)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print_error("interrupted")
        return EXIT_INTERRUPTED
    except SystemExit as err:
        # Ray raises another SystemExit, with 1, if the signal comes while it waits for a task.
        if err.code != signal.SIGTERM and not terminated.is_set():
            raise
        print_error("terminated")
        return EXIT_TERMINATED
    finished = returned if isinstance(returned, Finished) else Finished(result=returned, exit_code=EXIT_DONE)
    if json:
        result = {} if finished.result is None else finished.result
        with tolerates_closed_stdout():
            print(
                json_text.dumps(_to_json(result), default=_encode, allow_nan=False), file=stdout, flush=True
            )
    return finished.exit_code


def _allow_any_text() -> None:
    """Escapes what the streams cannot show, such as a class called ümlaut in ASCII: it must not end the job."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _sigterm_unwinds(received: threading.Event) -> Iterator[None]:
    """Lets SIGTERM set `received` and raise SystemExit, as Ray does while it is connected, so that all is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, _: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the end
        received.set()
        raise SystemExit(number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_with(code: int) -> NoReturn:
    """Ends the process of a job at once; every job's file ends with this call.

    By now, all results are written and all resources released. A regular interpreter shutdown may abort, and so change
    the exit code of a job that succeeded, if the thread that forwards the output of Ray's workers prints during it.
    """
    with tolerates_closed_stdout():
        sys.stderr.flush()
    logging.shutdown()
    os._exit(code)


def show(*renderables: RenderableType) -> None:
    """Prints tables to stdout, each followed by an empty line; without colours if stdout is not a terminal."""
    console = Console(highlight=False)
    with tolerates_closed_stdout():
        for renderable in renderables:
            console.print(renderable)
            console.print()


@contextmanager
def tolerates_closed_stdout() -> Iterator[None]:
    """Lets nobody fail who writes to a stdout that its reader has closed, as `| head -1` does; the rest is lost."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def has_terminal() -> bool:
    """Returns whether stderr is a terminal with a known width, so that a live progress bar can be drawn."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


def print_error(problem: Exception | str) -> None:
    """Prints `error: …` to stderr, on one line even if the message has several."""
    print("error:", redact(" ".join(str(problem).split())), file=sys.stderr, flush=True)


def _to_json(value: Any) -> Any:
    """Returns a result in which every number that JSON does not have (NaN, infinity) is None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _to_json(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_to_json(each) for each in value]
    return value


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"A result must be JSON values. Received {type(value).__name__}: {value!r}.")
