"""Recipe files: a TOML text in, a recipe out, and back. `jobs.train FILE.toml` trains one, `jobs.tune` writes one.

    base = "seed"             # a recipe whose values the others replace; without it, the defaults of every field
    summary = "What this recipe is for."
    epochs = 12

    [optimizer]
    weight_decay = 0.004

The names are those of the flags of jobs.train, with a table for each group. The table of the options of the model,
`--model.depth 56`, is called model_options, because TOML has no table next to a value of the same name.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from cnnlib.config import TrainConfig
from cnnlib.config_fields import changed_fields, replace_fields
from cnnlib.errors import ConfigError
from cnnlib.model_options import ModelOptions
from cnnlib.recipes import Recipe, find_recipe

ENDING = ".toml"
_OPTION = re.compile(rf"\bmodel\.({'|'.join(field.name for field in fields(ModelOptions))})\b")
_OPTIONS_AS_FLAGS = re.compile(r"^\s*(\[\s*model\s*\]|model\s*\.)", re.MULTILINE)
_OPTIONS_TABLE = "The options of the model are in the table [model_options]."


def parse_recipe(text: str, name: str) -> Recipe:
    """Parses the text of a recipe file. It has no gate: a gate is a file of its own.

    Args:
        name: the file's name, for messages.

    Raises:
        ConfigError: the text is not TOML, or has an unknown field or a value that cannot work.
    """
    try:
        # Editors of Windows begin a text with this mark.
        document = tomllib.loads(text.removeprefix("\ufeff"))
        base, summary = document.pop("base", None), document.pop("summary", "")
        if base is not None and not isinstance(base, str):
            raise ConfigError(f"base must be the name of a recipe. Received {base!r}.")
        config = TrainConfig() if base is None else find_recipe(base).config
        return Recipe(
            str(summary) or f"The recipe of {name}.", replace_fields(config, dict(_flatten(document)))
        )
    except tomllib.TOMLDecodeError as err:
        hint = f" {_OPTIONS_TABLE}" if _OPTIONS_AS_FLAGS.search(text) else ""
        raise ConfigError(f"{name} is not TOML: {err}.{hint}") from err
    except (ConfigError, TypeError) as err:
        # A check of one option names its flag, and not the table in which it is here.
        problem = str(err) if "model_options" not in document else _OPTION.sub(r"model_options.\1", str(err))
        raise ConfigError(f"{name}: {problem}") from err


def format_recipe(config: TrainConfig, comments: Sequence[str] = (), summary: str = "") -> str:
    """Returns the text of a recipe file: every field that differs from its default.

    Args:
        comments: lines for its head.
    """
    lines = [
        *(f"# {comment}" for comment in comments),
        *([f"summary = {json.dumps(summary)}"] if summary else []),
    ]
    groups: dict[str, list[str]] = {"": []}
    for name, value in changed_fields(config, TrainConfig()).items():
        group, _, field = name.rpartition(".")
        groups.setdefault(group, []).append(f"{field} = {_format(value)}")
    lines += groups.pop("")
    for group, entries in groups.items():
        lines += ["", f"[{group}]", *entries]
    return "\n".join(lines) + "\n"


def _flatten(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _format(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_format, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return '"none"'
    return repr(value)
