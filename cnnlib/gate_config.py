"""Defines the gate of a model: limits on its accuracy, from a TOML file or a recipe, as frozen dataclasses.

    significance = 0.05              # 0: plain thresholds, without tests
    baseline = "previous"            # or "previous-run", "best-of-run", "best", "run:NAME", a report's id
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

Accuracies and drops are fractions, 0..1: 0.01 is one percentage point; a drop is below 1. Every key is optional, but
one limit is required. This module imports only the standard library.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnlib.errors import ConfigError, nearest

EARLIER = ("previous", "previous-run", "best-of-run", "best")
"""Baselines that are chosen among the earlier reports."""

_REPORT_ID = re.compile(r"[0-9a-f]{1,16}")
_RUN_PREFIX = "run:"
# 1 and 2 are errors of the job itself; 126 and above belong to the shell.
_FIRST_FREE_EXIT_CODE, _LAST_FREE_EXIT_CODE = 3, 125


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on accuracies or on drops of accuracy, 0..1. None: no limit."""

    overall: float | None = None
    """The limit on all rows together."""
    every_class: float | None = None
    """The limit on each class that has rows and is not in `classes`."""
    classes: Mapping[str, float] = field(default_factory=dict)
    """The limits on classes, by name."""
    slices: Mapping[str, float] = field(default_factory=dict)
    """The limits on slices, by name, such as source=web."""

    @property
    def is_limiting(self) -> bool:
        """Whether there is any limit."""
        return self != Limits()


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The gate of a model.

    Attributes:
        min_accuracy: the lowest accuracies that pass.
        max_drop: the largest drops below the accuracies of the baseline that pass.
        baseline: the report that drops are measured against, among those on the same rows. previous: the one before
            of the same run, else as previous-run. previous-run: the last one of the last run before of the same recipe
            and model; while this run is trained, as far as this run has come. best-of-run: the most accurate earlier
            one of the same run. best: of any run. run:NAME: the last epoch of that run. Or a report's id, which may be
            shortened while unique. It is chosen when the gate is first applied, and then kept.
        significance: the highest probability, 0..0.5, that a model that keeps all limits fails. 0: no statistical
            tests; a check fails whenever its limit is broken.
        fail_exit_code: the exit code of jobs.evaluate if a check fails: 0 or 3..125.
        inconclusive_exit_code: its exit code if no check fails and one is inconclusive: 0 or 3..125.
    """

    min_accuracy: Limits = field(default_factory=Limits)
    max_drop: Limits = field(default_factory=Limits)
    baseline: str = "previous"
    significance: float = 0.05
    fail_exit_code: int = 3
    inconclusive_exit_code: int = 4

    def __post_init__(self) -> None:
        if not (self.min_accuracy.is_limiting or self.max_drop.is_limiting):
            raise ConfigError("The gate limits nothing. Expected a number in min_accuracy or max_drop.")
        for table in ("min_accuracy", "max_drop"):
            _check_limits(table, getattr(self, table))
        is_known = self.baseline in EARLIER or find_baseline_run(self.baseline)
        if not is_known and not _REPORT_ID.fullmatch(self.baseline):
            raise ConfigError(
                f"baseline must be {', '.join(EARLIER)}, run:NAME or a report's id. Received {self.baseline!r}."
            )
        if not 0 <= self.significance <= 0.5:
            raise ConfigError(f"significance must lie in 0..0.5. Received {self.significance}.")
        for name in ("fail_exit_code", "inconclusive_exit_code"):
            _check_exit_code(name, getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """Returns the gate as JSON values."""
        return dataclasses.asdict(self)


def find_baseline_run(baseline: str) -> str | None:
    """Returns the run that a baseline names; None for every other baseline.

    >>> find_baseline_run("run:nightly"), find_baseline_run("previous")
    ('nightly', None)
    """
    return baseline.removeprefix(_RUN_PREFIX) or None if baseline.startswith(_RUN_PREFIX) else None


def parse_gates(text: str, name: str) -> GateConfig:
    """Parses the text of a TOML file with a gate.

    Args:
        name: the file's name, for messages.

    Raises:
        ConfigError: the text is not TOML, or has an unknown key or a value that cannot work.
    """
    try:
        # Editors of Windows begin a text with this mark.
        return _build(tomllib.loads(text.removeprefix("\ufeff")))
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
            limits = _expect(f"{table}.{key}", value, dict, "a table of name = number")
            values[key] = {name: _number(f"{table}.{key}.{name}", limit) for name, limit in limits.items()}
        else:
            values[key] = _number(f"{table}.{key}", value)
    return Limits(**values)


def _check_keys(where: str, document: Mapping[str, Any], cls: type[GateConfig] | type[Limits]) -> None:
    known = [field.name for field in dataclasses.fields(cls)]
    for key in document:
        if key not in known:
            raise ConfigError(f"Unknown key {key!r} in {where}. {nearest(key, known)}")


def _number(name: str, value: object) -> float:
    return float(_expect(name, value, (int, float), "a number"))


def _expect(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> Any:
    # True is an int in Python, but a mistake in a gate.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"{name} must be {expected}. Received {value!r}.")
    return value


def _check_limits(table: str, limits: Limits) -> None:
    by_key = {"overall": limits.overall, "every_class": limits.every_class}
    by_key |= {f"classes.{name}": value for name, value in limits.classes.items()}
    by_key |= {f"slices.{name}": value for name, value in limits.slices.items()}
    for key, value in by_key.items():
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{table}.{key} must be a fraction, 0..1: 0.01 is 1 %. Received {value:g}.")
        if table == "max_drop" and value == 1:
            raise ConfigError(
                f"{table}.{key} must be below 1: 0.01 is 1 %, and no accuracy can drop by more than 1, which is 100 %."
            )


def _check_exit_code(name: str, code: int) -> None:
    if code != 0 and not _FIRST_FREE_EXIT_CODE <= code <= _LAST_FREE_EXIT_CODE:
        raise ConfigError(
            f"{name} must be 0 or {_FIRST_FREE_EXIT_CODE}..{_LAST_FREE_EXIT_CODE}; 1 and 2 are errors. Received {code}."
        )
