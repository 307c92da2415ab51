"""Parses the command lines of the jobs into dataclasses."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, cast

import tyro

from cnnlib.config import TrainConfig
from cnnlib.errors import ConfigError, InputError
from cnnlib.model_options import ModelOptions
from cnnlib.recipe_files import ENDING, parse_recipe
from cnnlib.recipes import RECIPES, Recipe, find_recipe
from cnnlib.storage import files
from cnnlib.storage.uri import uri_name
from jobs.cli import EXIT_BAD_INPUT, EXIT_DONE, print_error, tolerates_closed_stdout

ArgsT = TypeVar("ArgsT")
_WORKERS = re.compile(r"--workers (\d+)\.\.(\d+)")
_NUMBER = re.compile(r"-[\d.]")
LISTS = frozenset(
    {
        "--batch-sizes", "--checkpoint", "--class-map", "--class-names", "--env", "--loss.class-weights",
        "--model.filters", "--model.units", "--seeds", "--slice-by", "--splits",
    }
)  # fmt: skip
"""The flags that take several values, of all jobs."""
_ONCE = ("--gate",)
"""Flags that take one value, of which a person may expect that two count. Of others, the last one does, as usual."""


@dataclass(frozen=True, kw_only=True)
class TrainFlags(TrainConfig):
    """A training config as its flags spell it: `--model NAME` is next to `--model.depth 56`.

    The config itself imports no tyro, so it cannot say that the flags of its field `model_options` have another name.
    """

    model_options: Annotated[ModelOptions, tyro.conf.arg(name="model")] = dataclasses.field(
        default_factory=ModelOptions
    )

    @classmethod
    def of(cls, config: TrainConfig) -> TrainFlags:
        """Returns the flags that give a config."""
        return cls(**_fields(config))

    def to_config(self) -> TrainConfig:
        """Returns the config that the flags give."""
        return TrainConfig(**_fields(self))


def parse_args(
    cls: type[ArgsT] | UnionType,
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str | None,
    default: ArgsT | None = None,
) -> ArgsT:
    """Builds a dataclass from command line flags; `--help` shows its fields' docstrings and defaults.

    Ends the process with exit code 2 and a message if a flag is unknown (the message names the nearest) or has the
    wrong type, or if the dataclass raises an InputError.

    Args:
        cls: the dataclass, or a union of dataclasses as subcommands.
        argv: the flags; None: those of this process.
        prog: the command as a person types it, such as `python -m jobs.report`.
        description: what the command does, for `--help`.
        default: values of the flags that are not given; None: the defaults of the dataclass.
    """
    try:
        with tolerates_closed_stdout():
            return tyro.cli(
                # tyro accepts unions too, but its types do not.
                cast("type[ArgsT]", cls),
                args=join_lists(_split_ranges(sys.argv[1:] if argv is None else argv)),
                prog=prog,
                description=description,
                default=tyro.MISSING_NONPROP if default is None else default,
                # A switch is `--json` alone, without `--no-json`.
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except InputError as err:
        print_error(err)
        raise SystemExit(EXIT_BAD_INPUT) from err
    raise SystemExit(EXIT_DONE)  # the help, of which somebody read the first lines


def _fields(config: TrainConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}


def _split_ranges(argv: Sequence[str]) -> list[str]:
    """Writes ranges as argparse takes them.

    A word that begins with a minus is a flag for it, so `--pixel-range -1..1` becomes one word; `--workers 1..4` is
    short for two flags.
    """
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--pixel-range" and word.startswith("-1"):
            words[-1] = f"--pixel-range={word}"
        elif match := _WORKERS.fullmatch(f"{words[-1]} {word}" if words else ""):
            words[-1:] = [f"--workers={match[2]}", f"--min-workers={match[1]}"]
        elif match := _WORKERS.fullmatch(word.replace("=", " ", 1)):
            words += [f"--workers={match[2]}", f"--min-workers={match[1]}"]
        else:
            words.append(word)
    return words


def join_lists(words: Sequence[str]) -> list[str]:
    """Writes the values of a flag that is given several times after its first one: argparse would forget those before.

    Raises:
        ConfigError: a flag that takes one value is given several times, and one of them would be forgotten.

    >>> join_lists(["--checkpoint", "a", "--json", "--checkpoint=b", "c", "--", "--checkpoint", "d"])
    ['--checkpoint', 'a', 'b', 'c', '--json', '--', '--checkpoint', 'd']
    """
    end = words.index("--") if "--" in words else len(words)
    names = [word.partition("=")[0].replace("_", "-") for word in words[:end]]
    if twice := next((name for name in _ONCE if names.count(name) > 1), None):
        raise ConfigError(f"{twice} takes one value. Received it {names.count(twice)} times.")
    repeated = {name for name in LISTS if names.count(name) > 1}
    parts: list[list[str]] = [[]]
    current, found = parts[0], dict[str, list[str]]()
    for word, name in zip(words, names, strict=False):
        if name in repeated:
            if name not in found:
                found[name] = [name]
                parts.append(found[name])
            current = found[name]
            current += word.split("=", 1)[1:]
        elif word.startswith("-") and not _NUMBER.match(word):
            current = [word]
            parts.append(current)
        else:
            current.append(word)
    return [word for part in parts for word in part] + list(words[end:])


def pick_recipe(
    argv: Sequence[str] | None, prog: str, description: str | None
) -> tuple[str, Recipe, list[str]]:
    """Splits the command line into the recipe's name, the recipe, and the flags. A name may be that of a recipe file.

    Ends the process with the list of recipes for `--help` (exit code 0) or without a recipe (exit code 2), and with a
    message for an unknown recipe or a file that is none (exit code 2).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    recipes = "\n".join(f"  {name:10}{recipe.summary}" for name, recipe in RECIPES.items())
    usage = (
        f"usage: {prog} RECIPE [flags]\n\n{description}\nRecipes ({prog} RECIPE --help shows its flags), or a recipe "
        f"file, such as one that jobs.tune wrote:\n{recipes}"
    )
    if not words or words[0] in ("-h", "--help"):
        with tolerates_closed_stdout():
            print(usage, file=sys.stdout if words else sys.stderr)
        raise SystemExit(EXIT_DONE if words else EXIT_BAD_INPUT)
    try:
        if words[0].startswith("-"):
            raise ConfigError(
                f"The recipe comes first: {prog} RECIPE [flags]. Received {words[0]!r}. "
                f"Known: {', '.join(RECIPES)}, or a recipe file."
            )
        if words[0].endswith(ENDING):
            return uri_name(words[0]), _read_recipe(words[0]), words[1:]
        return words[0], find_recipe(words[0]), words[1:]
    except InputError as err:
        print_error(err)
        raise SystemExit(EXIT_BAD_INPUT) from err


def _read_recipe(uri: str) -> Recipe:
    data = files.read_bytes(uri)
    try:
        return parse_recipe(data.decode(), uri)
    except UnicodeDecodeError as err:
        raise ConfigError(f"{uri} is no text in UTF-8.") from err
