"""Runs programs for tests in processes of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def run_job_and_list_imports(
    job: str, *arguments: str, of: Collection[str]
) -> subprocess.CompletedProcess[str]:
    """Runs a job; the last line of its stderr is the set of the modules in `of` that it imported."""
    program = (
        f"import sys; from jobs.{job} import main; code = main(sys.argv[1:]);"
        f"print({set(of)} & set(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def analyze_units(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs systemd-analyze; skips the test without it, because it comes with systemd and not with a package."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
