"""Tests that every path in the pages exists, and that the architecture page has the layers of the import contract."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/benchmarks/README.md",
    "docs/export.md",
    "docs/scaling.md",
    "docs/what-can-go-wrong.md",
]
FOLDERS = ["cnnlib", "docs", "infra", "jobs", "tests"]
ROOMS = sorted(path.parent.name for path in (REPOSITORY / "cnnlib").glob("*/__init__.py"))
# A path from the root, such as `jobs/train.py`, or a module of a room, such as `training/loop.py`.
FROM_ROOT = re.compile(rf"(?<![\w./:-])(?:{'|'.join(FOLDERS)})/[\w./-]*")
IN_ROOM = re.compile(rf"(?<![\w./:-])(?:{'|'.join(ROOMS)})/[\w/]+\.py\b")


def find_paths(text: str) -> set[Path]:
    """Returns the paths that a page names, relative to the root of the repository."""
    from_root = {Path(path.rstrip(".")) for path in FROM_ROOT.findall(text)}
    return from_root | {Path("cnnlib", path) for path in IN_ROOM.findall(text)}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    missing = {
        path for path in find_paths((REPOSITORY / page).read_text()) if not (REPOSITORY / path).exists()
    }
    assert missing == set()


def test_paths_are_found_in_a_page() -> None:
    text = "Read `jobs/train.py`, training/loop.py and docs/scaling.md. Not runs/first@best, out/docs/x, a://docs/y."
    assert find_paths(text) == {
        Path("jobs/train.py"),
        Path("cnnlib/training/loop.py"),
        Path("docs/scaling.md"),
    }


def test_the_architecture_page_names_the_modules_of_every_job() -> None:
    paths = find_paths((REPOSITORY / "docs/architecture.md").read_text())
    assert {Path("jobs", f"{job}.py") for job in ("prepare", "train", "evaluate", "report")} <= paths


def test_the_architecture_page_has_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    section = (REPOSITORY / "docs/architecture.md").read_text().partition("## Layers")[2]
    [block] = re.findall(r"^```\n(.*?)^```", section, re.M | re.S)
    assert [re.split(r" {2,}", line)[0] for line in block.splitlines()] == [
        layer.replace("cnnlib.", "") for layer in layers
    ]
