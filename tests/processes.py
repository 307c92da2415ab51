"""Programs that tests run in a process of their own."""

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
    """Runs a job; the last line of its stderr is the set of those modules `of` which it loaded."""
    program = (
        f"import sys; from jobs.{job} import main; code = main(sys.argv[1:]);"
        f"print({set(of)} & set(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def analyze_units(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs systemd-analyze. It comes with systemd and with no package of ours: without it the test is skipped."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
