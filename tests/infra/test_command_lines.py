"""Tests that the jobs and Ray can parse every command line in infra/."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cli import EXIT_DONE

REPOSITORY = Path(__file__).parents[2]
INFRA = REPOSITORY / "infra"
# Only these files are read. A file that no longer has its commands fails the test.
JOBS_BY_FILE = {
    "README.md": ["train", "submit", "submit", "report"],
    "docker/Dockerfile": ["train"],
    "kuberay/evaluate-cronjob.yaml": ["submit"],
    "kuberay/evaluate-rayjob.yaml": ["evaluate"],
    "kuberay/train-rayjob.yaml": ["train"],
    "observability/cnnlib-gauges.conf": ["report"],
    "schedule/cnnlib-evaluate.service": ["evaluate"],
}
RAY_BY_FILE = {
    "README.md": ["job submit", "get-auth-token", "up", "exec", "dashboard", "down"],
    "aws/ray-cluster.yaml": ["stop", "start", "stop", "start"],
}


def read_lines(file: Path) -> Iterator[list[str]]:
    """Yields the command lines of a file, split into words."""
    text = file.read_text()
    if file.suffix == ".yaml":
        yield from read_yaml(yaml.safe_load(text))
    elif file.suffix == ".md":
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
            yield from (shlex.split(line, comments=True) for line in block.splitlines())
    elif file.name == "Dockerfile":
        yield from (json.loads(command) for command in re.findall(r"^CMD (.*)$", text, re.M))
    else:
        yield from (
            shlex.split(command) for command in re.findall(r"^ExecSt(?:art|opPost)=(.*)$", text, re.M)
        )


def read_yaml(value: Any) -> Iterator[list[str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "command":
                yield each
            elif key == "entrypoint":
                yield shlex.split(each)
            elif key.endswith("_commands"):
                yield from (shlex.split(command) for command in each)
            else:
                yield from read_yaml(each)
    elif isinstance(value, list):
        for each in value:
            yield from read_yaml(each)


def find_job(words: list[str]) -> list[str] | None:
    """Returns the name of a job and its arguments; None if the words run no job before the first `--`."""
    for at, word in enumerate(words[:-1]):
        if word == "--":
            return None
        if word == "-m" and words[at + 1].startswith("jobs."):
            return [words[at + 1].removeprefix("jobs."), *words[at + 2 :]]
    return None


def parse_job(job: str, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the command line parser of a job, and nothing else of the job.

    Raises:
        SystemExit: with code 2 for an invalid command line.
    """
    module = importlib.import_module(f"jobs.{job}")
    ran = []
    monkeypatch.setattr(module, "run_job", lambda main, *, json: ran.append(job) or EXIT_DONE)
    if hasattr(module, "prefer_address"):
        monkeypatch.setattr(module, "prefer_address", lambda address: None)
    try:
        module.main(argv)
    except SystemExit as stopped:
        if stopped.code != EXIT_DONE or "--help" not in argv:
            raise
    else:
        assert ran == [job]
    if "--" in argv:
        inner = find_job(argv[argv.index("--") + 1 :])
        assert inner is not None, f"{argv} submits no job of ours."
        parse_job(inner[0], inner[1:], monkeypatch)


def parse_ray(words: list[str]) -> str:
    """Parses a `ray …` line with Ray's own parser, and returns the name of the command."""
    import click
    from ray.scripts.scripts import cli

    command: click.Command = cli
    names = []
    rest = words
    while isinstance(command, click.Group):
        name, rest = rest[0], rest[1:]
        assert name in command.commands, f"`ray {name}` does not exist."
        command = command.commands[name]
        names.append(name)
    # Only the settings of the context matter here: no value is converted, no default is read.
    with click.Context(command, info_name="ray", **command.context_settings) as context:
        command.make_parser(context).parse_args(list(rest))
    return " ".join(names)


@pytest.mark.parametrize("name", JOBS_BY_FILE)
def test_every_job_command_parses_with_the_real_parser(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [find_job(words) for words in read_lines(INFRA / name)]
    commands = [command for command in found if command is not None]
    if name == "README.md":
        # `ray job submit … -- python -m jobs.…`
        inner = [
            words[words.index("--") + 1 :]
            for words in read_lines(INFRA / name)
            if words[:1] == ["ray"] and "--" in words
        ]
        commands = [command for command in map(find_job, inner) if command is not None] + commands
    assert [command[0] for command in commands] == JOBS_BY_FILE[name]
    for job, *argv in commands:
        parse_job(job, argv, monkeypatch)


@pytest.mark.parametrize("name", RAY_BY_FILE)
def test_every_ray_command_parses_with_rays_own_parser(name: str) -> None:
    lines = [words[1:] for words in read_lines(INFRA / name) if words[:1] == ["ray"]]
    assert [parse_ray(words) for words in lines] == RAY_BY_FILE[name]


def test_no_file_with_a_job_command_is_forgotten() -> None:
    files = [
        file
        for file in INFRA.rglob("*")
        if file.suffix in (".yaml", ".md", ".service", ".conf") or file.name == "Dockerfile"
    ]
    with_jobs = {str(file.relative_to(INFRA)) for file in files if any(map(find_job, read_lines(file)))}
    assert with_jobs == set(JOBS_BY_FILE)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--pending", "runs", "--dat", "data", "--reports", "reports"],
        ["submit", "--address", "http://head:8265", "--wait", "--", "python", "-m", "jobs.report", "reports"],
        [
            "submit",
            "--address",
            "http://head:8265",
            "--",
            "python",
            "-m",
            "jobs.train",
            "sed",
            "--data",
            "d",
            "--name",
            "n",
        ],
        ["train", "seed", "--data", "data", "--name", "seed", "--gpus", "1"],
    ],
    ids=lambda words: words[0],
)
def test_wrong_flag_is_found(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_job(words[0], words[1:], monkeypatch)
    assert stopped.value.code == 2


def test_wrong_ray_flag_is_found() -> None:
    import click

    with pytest.raises(click.NoSuchOption):
        parse_ray(["start", "--head", "--dashbord-host=127.0.0.1"])
