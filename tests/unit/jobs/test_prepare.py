"""Tests `python -m jobs.prepare` in a process of its own."""

from __future__ import annotations

from pathlib import Path

from cnnlib.dataset.manifest import load_manifest
from tests.fashion import TEST_ROWS, write_tiny_idx
from tests.processes import run_job_and_list_imports


def test_preparing_loads_nothing_that_takes_longer_than_the_work(tmp_path: Path) -> None:
    source, output = str(write_tiny_idx(tmp_path / "idx")), str(tmp_path / "data")
    heavy = {"pandas", "matplotlib", "scipy", "boto3", "ray", "tensorflow"}
    ran = run_job_and_list_imports("prepare", "idx", source, "--output", output, of=heavy)
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (0, "set()"), ran.stderr
    assert load_manifest(output).splits["test"].rows == TEST_ROWS
