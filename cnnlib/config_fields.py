"""Replaces fields of a config by their dotted names, from values of TOML or from text; stdlib only, as config.py."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from cnnlib.errors import ConfigError, nearest

ConfigT = TypeVar("ConfigT")
_WORDS = {"true": True, "false": False, "True": True, "False": False}  # of TOML, and of the flags
# The flags of this group are next to the flag --model: `--model resnet --model.depth 56`.
_GROUPS_OF_FLAGS = {"model": "model_options"}


def field_name(name: str) -> str:
    """Returns the dotted name of a field whose flag, without its dashes, is `name`.

    >>> field_name("batch-size"), field_name("model.widen-factor")
    ('batch_size', 'model_options.widen_factor')
    """
    first, dot, rest = name.replace("-", "_").partition(".")
    return f"{_GROUPS_OF_FLAGS.get(first, first)}.{rest}" if dot else first


def flag_name(name: str) -> str:
    """Returns a field's dotted name as its flag spells it, with underscores: what tables and messages call it.

    >>> flag_name("batch-size"), flag_name("model_options.widen_factor"), flag_name("model.widen-factor")
    ('batch_size', 'model.widen_factor', 'model.widen_factor')
    """
    first, dot, rest = field_name(name).partition(".")
    flags = {group: flag for flag, group in _GROUPS_OF_FLAGS.items()}
    return f"{flags.get(first, first)}.{rest}" if dot else first


def replace_fields(config: ConfigT, values: Mapping[str, Any], *, above: str = "") -> ConfigT:
    """Returns a config with other values in some fields. They are checked together, after all are set.

    Args:
        config: a frozen dataclass, whose fields may be such dataclasses.
        values: by dotted name, such as `optimizer.weight_decay` or `optimizer.weight-decay`: a value of the field's
            type, or its text as on a command line; `none` is None where that is allowed.
        above: the dotted name of the config itself, with a dot; for messages.

    Raises:
        ConfigError: there is no such field, or it cannot have this value. It names the field as `values` does.
    """
    hints = get_type_hints(type(config))
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    spelled: dict[str, str] = {}
    _check_spelled_once(values, above)
    for name, value in values.items():
        first, dot, rest = field_name(name).partition(".")
        if first not in hints:
            raise ConfigError(f"There is no field {above}{name}. {nearest(first, hints)}")
        if dataclasses.is_dataclass(getattr(config, first)):
            if not dot:
                raise ConfigError(
                    f"{above}{name} is a group of fields. Expected one of them: {above}{name}.…"
                )
            inner.setdefault(first, {})[rest] = value
            spelled[first] = name.partition(".")[0]
        elif dot:
            raise ConfigError(f"{above}{first} is no group of fields. Received {above}{name}.")
        else:
            own[first] = convert(value, hints[first], f"{above}{name}")
    for first, some in inner.items():
        own[first] = replace_fields(getattr(config, first), some, above=f"{above}{spelled[first]}.")
    return cast("ConfigT", dataclasses.replace(cast("Any", config), **own))


def changed_fields(config: object, base: object) -> dict[str, Any]:
    """Returns the fields in which a config differs from another one of its type, by dotted name.

    >>> from cnnlib.config import OptimizerConfig, TrainConfig
    >>> changed_fields(TrainConfig(epochs=3, optimizer=OptimizerConfig(name="sgd")), TrainConfig(epochs=2))
    {'epochs': 3, 'optimizer.name': 'sgd'}
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cast("Any", config)):
        own, other = getattr(config, field.name), getattr(base, field.name)
        if dataclasses.is_dataclass(own) and type(own) is type(other):
            inner = changed_fields(own, other)
            found |= {f"{field.name}.{name}": value for name, value in inner.items()}
        elif own != other:
            found[field.name] = own
    return found


def field_type(config: object, name: str, *, above: str = "") -> Any:
    """Returns the annotated type of a field, by its dotted name.

    Raises:
        ConfigError: there is no such field.
    """
    first, dot, rest = field_name(name).partition(".")
    hints = get_type_hints(type(config))
    if first not in hints:
        raise ConfigError(f"There is no field {above}{name}. {nearest(first, hints)}")
    if not dot:
        return hints[first]
    return field_type(getattr(config, first), rest, above=f"{above}{name.partition('.')[0]}.")


def convert(value: Any, hint: Any, name: str) -> Any:
    """Returns a value, or the value that a text states, as a field of a type needs it.

    Args:
        hint: bool, int, float, str, a Literal, a tuple of one of them, or a union; with None, `none` is None.

    Raises:
        ConfigError: it has another type.
    """
    for each in _alternatives(hint):
        try:
            return _convert_to(value, each)
        except (TypeError, ValueError):
            continue
    raise ConfigError(f"{name} must be {_describe(hint)}. Received {value!r}.")


def _check_spelled_once(names: Iterable[str], above: str) -> None:
    spelled: dict[str, str] = {}
    for name in names:
        before = spelled.setdefault(field_name(name), name)
        if before != name:
            raise ConfigError(f"{above}{before} and {above}{name} are one field. Expected one of them.")


def _alternatives(hint: Any) -> list[Any]:
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def _convert_to(value: Any, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError
        return value
    if get_origin(hint) is tuple:
        items = value.split() if isinstance(value, str) else list(value)
        return tuple(_convert_to(each, get_args(hint)[0]) for each in items)
    if hint is type(None):
        if value is not None and value != "none":
            raise ValueError
        return None
    if hint is bool:
        return value if isinstance(value, bool) else _WORDS[value] if value in _WORDS else _fail()
    if hint is str:
        return value if isinstance(value, str) else _fail()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        _fail()
    if hint is int and isinstance(value, float):
        _fail()
    return hint(value)


def _fail() -> Any:
    raise ValueError


def _describe(hint: Any) -> str:
    names = []
    for each in _alternatives(hint):
        if get_origin(each) is Literal:
            names.append(f"one of {', '.join(map(str, get_args(each)))}")
        elif get_origin(each) is tuple:
            names.append(f"a list of {get_args(each)[0].__name__}")
        else:
            names.append("none" if each is type(None) else each.__name__)
    return " or ".join(names)
