"""The error tree is as its docstring draws it, and every error can be sent between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from cnnlib import errors
from cnnlib.errors import CnnlibError, ConfigError, InputError, nearest
from jobs.cli import run_job

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, Exception) and cls.__module__ == errors.__name__
]
# `    │   ├── ConfigError       a flag` -> (depth, name, the rest)
_BRANCH = re.compile(r"^ {4}((?:│   |├── |└── )*)(\w+)(.*)$", re.MULTILINE)


def drawn() -> dict[str, tuple[str | None, str]]:
    """Returns the tree in the docstring: each class's parent (None for the root), and the text beside it."""
    path: list[str] = []
    tree: dict[str, tuple[str | None, str]] = {}
    for indent, name, text in _BRANCH.findall(errors.__doc__ or ""):
        del path[len(indent) // 4 :]
        tree[name] = (path[-1] if path else None, text)
        path.append(name)
    return tree


def test_docstring_draws_every_class_under_its_parent() -> None:
    have = {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}
    assert {name: parent or "Exception" for name, (parent, _) in drawn().items()} == have
    assert len(have) == 20


@pytest.mark.parametrize("cls", CLASSES)
def test_error_survives_pickling(cls: type[CnnlibError]) -> None:
    error = pickle.loads(pickle.dumps(cls("what is wrong, what came")))
    assert type(error) is cls
    assert str(error) == "what is wrong, what came"
    assert type(copy.deepcopy(error)) is cls


@pytest.mark.parametrize("cls", CLASSES)
def test_exit_code_is_the_one_in_the_drawing(cls: type[CnnlibError]) -> None:
    def fail() -> None:
        raise cls("bad")

    tree = drawn()
    said = {
        name: int(found[1])
        for name, (_, text) in tree.items()
        if (found := re.search(r"exit code (\d)", text))
    }
    failures = (
        "ClusterError", "StorageError", "RowCountError", "EvaluationError", "DivergedError", "RestartError",
        "TrainingError",
    )  # fmt: skip
    assert said == {"InputError": 2, **dict.fromkeys(failures, 1)}
    name: str | None = cls.__name__
    while name is not None and name not in said:
        name = tree[name][0]
    assert run_job(fail, json=False) == said.get(name or "", 1)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_says_what_it_is(cls: type[CnnlibError]) -> None:
    assert cls.__doc__
    assert issubclass(cls, CnnlibError)


def test_input_errors_differ_from_failures() -> None:
    assert issubclass(ConfigError, InputError)
    assert not issubclass(errors.StorageError, InputError)
    assert not issubclass(errors.RowCountError, InputError)
    assert not issubclass(errors.TrainingError, InputError)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("sed", ["seed", "demo"], "Did you mean 'seed'? Known: demo, seed."),
        ("seed", ["seed"], "Did you mean 'seed'? Known: seed."),
        ("zzz", ["seed", "demo"], "Known: demo, seed."),
        ("demmo", {"seed": 1, "demo": 2}, "Did you mean 'demo'? Known: demo, seed."),
        ("any", [], "Known: ."),
    ],
)
def test_nearest_known_name(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected
