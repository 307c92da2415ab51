"""Tests the shell scripts with shellcheck."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_shellcheck_finds_nothing() -> None:
    scripts = sorted((REPOSITORY / "infra").rglob("*.sh"))
    ci = REPOSITORY / ".ci" / "run"
    scripts += [ci] if ci.exists() else []
    assert REPOSITORY / "infra" / "setup" / "setup.sh" in scripts
    shellcheck = Path(sys.executable).parent / "shellcheck"
    # Lower severities are questions of style, such as an unquoted list of words that must be split.
    command = [shellcheck, "--severity=warning", *scripts]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stdout
