"""What a model must keep to: limits in a TOML file or a recipe, as frozen dataclasses. Standard library only.

    significance = 0.05              # 0: plain thresholds, without tests
    baseline = "previous"            # or "best", or a report's id: what a drop is measured against
    fail_exit_code = 3
    inconclusive_exit_code = 4

    [min_accuracy]
    overall = 0.88
    every_class = 0.7
    classes = { Shirt = 0.6 }        # instead of every_class
    slices = { "source=web" = 0.85 }

    [max_drop]
    overall = 0.01
    every_class = 0.03
    classes = { Shirt = 0.05 }
    slices = { "source=web" = 0.02 }

Accuracies and drops are shares, 0..1: 0.01 is one percentage point. Every key may be left out.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnlib.errors import ConfigError, nearest

EARLIER = ("previous", "best")
"""Baselines that are found among the earlier reports."""

_REPORT_ID = re.compile(r"[0-9a-f]{1,16}")
# 1 and 2 are errors of the job itself; from 126 on, a shell's.
_LEAST_FREE_EXIT_CODE, _LAST_FREE_EXIT_CODE = 3, 125


@dataclass(frozen=True, kw_only=True)
class Limits:
    """One number for each thing that is limited, 0..1; None: it is not."""

    overall: float | None = None
    """All rows together."""
    every_class: float | None = None
    """Each class that has rows, and is not among `classes`."""
    classes: Mapping[str, float] = field(default_factory=dict)
    """Classes by name."""
    slices: Mapping[str, float] = field(default_factory=dict)
    """Slices by name, such as source=web."""

    @property
    def is_limiting(self) -> bool:
        """Whether anything is limited."""
        return self != Limits()


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The gates of a model.

    Attributes:
        min_accuracy: the least accuracy.
        max_drop: by how much an accuracy may fall from the baseline's.
        baseline: previous or best (of the earlier reports of the same data, split and settings), or a report's id,
            which may be shortened while unique.
        significance: how often a model that keeps all limits may fail, 0..1. At 0 there are no tests: whatever
            breaks a limit fails.
        fail_exit_code: what jobs.evaluate exits with where a check fails: 0 or 3..125.
        inconclusive_exit_code: where none fails, and one is inconclusive.
    """

    min_accuracy: Limits = field(default_factory=Limits)
    max_drop: Limits = field(default_factory=Limits)
    baseline: str = "previous"
    significance: float = 0.05
    fail_exit_code: int = 3
    inconclusive_exit_code: int = 4

    def __post_init__(self) -> None:
        if not (self.min_accuracy.is_limiting or self.max_drop.is_limiting):
            raise ConfigError("The gates limit nothing. Expected a number below min_accuracy or max_drop.")
        for table in ("min_accuracy", "max_drop"):
            _check_limits(table, getattr(self, table))
        if self.baseline not in EARLIER and not _REPORT_ID.fullmatch(self.baseline):
            raise ConfigError(
                f"baseline must be previous, best, or a report's id. Received {self.baseline!r}."
            )
        if not 0 <= self.significance <= 0.5:
            raise ConfigError(f"significance must lie in 0..0.5. Received {self.significance}.")
        for name in ("fail_exit_code", "inconclusive_exit_code"):
            _check_exit_code(name, getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


def parse_gates(text: str, name: str) -> GateConfig:
    """The gates in the text of a TOML file.

    Args:
        name: the file's, for messages.

    Raises:
        ConfigError: it is not TOML, or has an unknown key or a value that cannot work.
    """
    try:
        return _build(tomllib.loads(text))
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{name} is not TOML: {err}.") from err
    except ConfigError as err:
        raise ConfigError(f"{name}: {err}") from err


def _build(document: Mapping[str, Any]) -> GateConfig:
    _check_keys("the file", document, GateConfig)
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key in ("min_accuracy", "max_drop"):
            values[key] = _build_limits(key, value)
        elif key == "baseline":
            values[key] = _expect(key, value, str, "a string")
        elif key == "significance":
            values[key] = _number(key, value)
        else:
            values[key] = _expect(key, value, int, "a whole number")
    return GateConfig(**values)


def _build_limits(table: str, document: object) -> Limits:
    entries = _expect(table, document, dict, "a table")
    _check_keys(table, entries, Limits)
    values: dict[str, Any] = {}
    for key, value in entries.items():
        if key in ("classes", "slices"):
            named = _expect(f"{table}.{key}", value, dict, "a table of name = number")
            values[key] = {name: _number(f"{table}.{key}.{name}", each) for name, each in named.items()}
        else:
            values[key] = _number(f"{table}.{key}", value)
    return Limits(**values)


def _check_keys(where: str, document: Mapping[str, Any], cls: type[GateConfig] | type[Limits]) -> None:
    known = [each.name for each in dataclasses.fields(cls)]
    for key in document:
        if key not in known:
            raise ConfigError(f"Unknown key {key!r} in {where}. {nearest(key, known)}")


def _number(name: str, value: object) -> float:
    return float(_expect(name, value, (int, float), "a number"))


def _expect(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> Any:
    # True is an int to Python, and a mistake here.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"{name} must be {expected}. Received {value!r}.")
    return value


def _check_limits(table: str, limits: Limits) -> None:
    named = {f"classes.{name}": value for name, value in limits.classes.items()}
    named |= {f"slices.{name}": value for name, value in limits.slices.items()}
    for key, value in {"overall": limits.overall, "every_class": limits.every_class, **named}.items():
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{table}.{key} is a share, 0..1: 0.01 is 1 %. Received {value:g}.")


def _check_exit_code(name: str, code: int) -> None:
    if code != 0 and not _LEAST_FREE_EXIT_CODE <= code <= _LAST_FREE_EXIT_CODE:
        raise ConfigError(
            f"{name} must be 0 or {_LEAST_FREE_EXIT_CODE}..{_LAST_FREE_EXIT_CODE}; 1 and 2 are errors. Received {code}."
        )
