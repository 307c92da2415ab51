"""Defines an accuracy ladder: its rungs, with the rule and the target of each, and published results, from a TOML file.

    title = "Fashion-MNIST"
    split = "test"                     # the split whose reports count; test, if nothing is said

    [[rung]]
    name = "small"                     # the runs are called small-seed-0, small-seed-1, …
    recipe = "infra/ladder/recipes/small.toml"
    rule = "at most 174,000 parameters"
    max_parameters = 174000            # checked; also max_mflop, and max_minutes_of = "another rung"
    target = 0.943                     # the median is at least this; or expected: its interval holds this value
    note = "needs a GPU"               # optional

    [[published]]
    name = "DenseNet-BC"
    accuracy = 0.954
    parameters = 768000                # optional
    source = "where it was published"

Accuracies are fractions, 0..1.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cnnlib.errors import ConfigError, nearest
from cnnlib.storage import files, layout
from cnnlib.storage.uri import normalize_uri

T = TypeVar("T", "Rung", "Published")


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A recipe, and the rule that it keeps.

    Attributes:
        name: what its runs are called before their seed.
        recipe: name of a recipe, or path of a recipe file.
        rule: the rule in words.
        max_parameters: the most parameters of its model.
        max_mflop: the most operations of one prediction, in millions.
        max_minutes_of: name of the rung that may train longer, or as long, on the same machine.
        target: the accuracy that the median reaches, 0..1.
        expected: an accuracy that the interval of the median run holds, 0..1.
        note: a remark, such as why it is not run.
    """

    name: str
    recipe: str
    rule: str
    max_parameters: int | None = None
    max_mflop: float | None = None
    max_minutes_of: str | None = None
    target: float | None = None
    expected: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if layout.run_name(self.name) != self.name:
            raise ConfigError(
                f"The name of rung {self.name!r} begins those of its runs. Expected a letter or a digit, then letters, "
                f"digits, '.', '_' and '-', such as {layout.run_name(self.name)!r}."
            )
        for name in ("target", "expected"):
            _check_fraction(f"{name} of rung {self.name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Published:
    """A result of others. `parameters` is None where they were not stated."""

    name: str
    accuracy: float
    source: str
    parameters: int | None = None

    def __post_init__(self) -> None:
        _check_fraction(f"accuracy of {self.name}", self.accuracy)


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The rungs in their order, and what they are compared with.

    Attributes:
        title: what the pictures and tables are about.
        split: the split whose reports count.
    """

    title: str
    rungs: tuple[Rung, ...]
    published: tuple[Published, ...] = ()
    split: str = "test"

    def __post_init__(self) -> None:
        names = [rung.name for rung in self.rungs]
        if not names:
            raise ConfigError("A ladder has at least one [[rung]]. Received none.")
        if len(set(names)) < len(names):
            raise ConfigError(f"Expected rungs of different names. Received {', '.join(names)}.")
        for rung in self.rungs:
            if rung.max_minutes_of is not None and rung.max_minutes_of not in names:
                raise ConfigError(
                    f"max_minutes_of of rung {rung.name} is {rung.max_minutes_of!r}. "
                    f"{nearest(rung.max_minutes_of, names)}"
                )


def load_ladder(uri: str) -> Ladder:
    """Reads a ladder's file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is no text in UTF-8, or `parse_ladder` refuses it.
    """
    try:
        return parse_ladder(files.read_bytes(normalize_uri(uri)).decode(), uri)
    except UnicodeDecodeError as err:
        raise ConfigError(f"{uri} is no text in UTF-8.") from err


def parse_ladder(text: str, name: str) -> Ladder:
    """Parses the text of a ladder's file.

    Args:
        name: the file's name, for messages.

    Raises:
        ConfigError: the text is not TOML, an entry is missing, unknown or of another type, or values contradict.
    """
    try:
        # Editors of Windows begin a text with this mark.
        document = tomllib.loads(text.removeprefix("\ufeff"))
        rungs = tuple(_read(Rung, each) for each in _tables(document.pop("rung", [])))
        published = tuple(_read(Published, each) for each in _tables(document.pop("published", [])))
        unknown = sorted(document.keys() - {"title", "split"})
        if unknown:
            raise ConfigError(
                f"Unknown entry {unknown[0]!r}. Expected title, split, [[rung]] or [[published]]."
            )
        for key, value in document.items():
            _check_type(key, value, "str")
        return Ladder(rungs=rungs, published=published, **{"title": name, **document})
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{name} is not TOML: {err}.") from err
    except ConfigError as err:
        raise ConfigError(f"{name}: {err}") from err


def _tables(value: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ConfigError(f"Expected tables, [[rung]] or [[published]]. Received {value!r}.")
    return value


def _read(kind: type[T], table: Mapping[str, Any]) -> T:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(table.keys() - fields.keys())
    if unknown:
        raise ConfigError(f"Unknown entry {unknown[0]!r}. {nearest(unknown[0], fields)}")
    missing = [n for n, field in fields.items() if field.default is dataclasses.MISSING and n not in table]
    if missing:
        raise ConfigError(f"{table.get('name', 'A table')!r} lacks {missing[0]!r}.")
    for name, value in table.items():
        _check_type(name, value, str(fields[name].type))
    return kind(**table)


def _check_type(name: str, value: Any, annotation: str) -> None:
    """Annotations are texts here, such as `int | None`."""
    expected = annotation.removesuffix(" | None")
    types: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    if isinstance(value, bool) or not isinstance(value, types[expected]):
        raise ConfigError(f"Expected {name} to be of type {expected}. Received {value!r}.")


def _check_fraction(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ConfigError(f"The {name} is {value}. Expected a fraction, 0..1: 0.93 is 93 %.")
