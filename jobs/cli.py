"""What every job shares: argv in, an exit code out; results on stdout, everything else on stderr.

0    done
1    failed: storage, workers, or a fault of this project (then with a traceback)
2    the input cannot work: one line `error: …`, nothing started or written
3    jobs.evaluate --gate: done, but a check failed; the gates may name another code
4    jobs.evaluate --gate: done, no check failed, but one is inconclusive; likewise
130  interrupted (Ctrl-C)

jobs.submit passes on the exit code of the job that it submitted.
"""

from __future__ import annotations

import json as json_text
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from types import UnionType
from typing import Any, NoReturn, TypeVar, cast

import tyro
from rich.console import Console, RenderableType

from cnnlib.cluster import local as local_ray
from cnnlib.errors import CnnlibError, InputError
from cnnlib.gate_config import GateConfig
from cnnlib.recipes import RECIPES, Recipe, find_recipe

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_GATE_FAILED = GateConfig.fail_exit_code
EXIT_GATE_INCONCLUSIVE = GateConfig.inconclusive_exit_code
EXIT_INTERRUPTED = 130

ArgsT = TypeVar("ArgsT")
Result = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a job that is done found, where its exit code tells more than that.

    Attributes:
        result: as JSON values.
        exit_code: what the job exits with.
    """

    result: Result
    exit_code: int


def parse_args(
    cls: type[ArgsT] | UnionType,
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str | None,
    default: ArgsT | None = None,
) -> ArgsT:
    """Builds a dataclass out of command line flags; `--help` shows its fields' docstrings and defaults.

    Ends the process with exit code 2 and a message for a flag that is unknown (with the nearest), of the
    wrong type, or refused by the dataclass itself.

    Args:
        cls: the dataclass, or a union of several as subcommands.
        argv: the flags; None for those of this process.
        prog: the command as a person types it, such as `python -m jobs.report`.
        description: what the command does, for `--help`.
        default: values for the flags that are not given; None for the dataclass's own defaults.
    """
    try:
        return tyro.cli(
            # tyro takes unions too; its types do not say so.
            cast("type[ArgsT]", cls),
            args=argv,
            prog=prog,
            description=description,
            default=tyro.MISSING_NONPROP if default is None else default,
            # A switch is `--json`, without a `--no-json` beside it.
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except InputError as err:
        _complain(err)
        raise SystemExit(EXIT_BAD_INPUT) from err


def pick_recipe(
    argv: Sequence[str] | None, prog: str, description: str | None
) -> tuple[str, Recipe, list[str]]:
    """Takes the recipe's name off the front of the command line; the rest are flags.

    Ends the process with the list of recipes: with exit code 0 when asked for help, 2 for an unknown recipe.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    recipes = "\n".join(f"  {name:10}{recipe.summary}" for name, recipe in RECIPES.items())
    usage = f"usage: {prog} RECIPE [flags]\n\n{description}\nRecipes ({prog} RECIPE --help shows its flags):\n{recipes}"
    if not words or words[0] in ("-h", "--help"):
        print(usage, file=sys.stdout if words else sys.stderr)
        raise SystemExit(EXIT_DONE if words else EXIT_BAD_INPUT)
    try:
        return words[0], find_recipe(words[0]), words[1:]
    except InputError as err:
        _complain(err)
        raise SystemExit(EXIT_BAD_INPUT) from err


def run_job(main: Callable[[], Result | Finished], *, json: bool) -> int:
    """Runs a job and returns its exit code.

    Args:
        main: does the job and returns its result as JSON values (times are allowed): an object, or a list of
            them; None is an empty object. As a `Finished` with the exit code of a job that is done.
        json: print the result as JSON on one line, and nothing else, to stdout. What `show`, a
            library or a worker prints there meanwhile goes to stderr.
    """
    local_ray.set_environment()
    stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr if json else stdout):
            returned = main()
    except InputError as err:
        _complain(err)
        return EXIT_BAD_INPUT
    except CnnlibError as err:
        _complain(err)
        return EXIT_FAILED
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    finished = returned if isinstance(returned, Finished) else Finished(result=returned, exit_code=EXIT_DONE)
    if json:
        result = finished.result
        print(
            json_text.dumps({} if result is None else result, default=_encode, allow_nan=False),
            file=stdout,
            flush=True,
        )
    return finished.exit_code


def exit_with(code: int) -> NoReturn:
    """Ends the process that a job is, at once; the last line of its file.

    All is written and shut down by now. An interpreter that takes itself apart while the thread in which Ray forwards
    its workers' output still prints may abort, and end a job that succeeded with another exit code.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    os._exit(code)


def show(*renderables: RenderableType) -> None:
    """Prints tables to stdout, each followed by an empty line; without colours where it is no terminal."""
    console = Console(highlight=False)
    for renderable in renderables:
        console.print(renderable)
        console.print()


def has_terminal() -> bool:
    """True where a person watches stderr: a terminal that says how wide it is, or nothing can be drawn on it."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


def _complain(problem: Exception | str) -> None:
    # One line, whatever a library put into the message.
    print("error:", " ".join(str(problem).split()), file=sys.stderr, flush=True)


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"A result must be JSON values. Received {type(value).__name__}: {value!r}.")
