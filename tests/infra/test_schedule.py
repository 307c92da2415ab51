"""Tests that systemd accepts the units."""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

from tests.processes import analyze_units

FOLDER = Path(__file__).parents[2] / "infra" / "schedule"
UNITS = ["cnnlib-evaluate.service", "cnnlib-evaluate.timer"]
HOME = "/opt/cnnlib"


def read_unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / name)
    return parser


def copy_units(folder: Path, **changes: str) -> list[str]:
    """Copies the units, with the path of an existing checkout, because systemd checks that the program exists."""
    program = folder / "checkout" / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    for name in UNITS:
        text = (FOLDER / name).read_text().replace(HOME, str(folder / "checkout"))
        for old, new in changes.items():
            text = text.replace(old, new)
        (folder / name).write_text(text)
    return [str(folder / name) for name in UNITS]


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    ran = analyze_units("verify", *copy_units(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_systemd_finds_a_misspelt_setting(tmp_path: Path) -> None:
    ran = analyze_units("verify", *copy_units(tmp_path, PrivateTmp="PrivatTmp"))
    assert "PrivatTmp" in ran.stderr


def test_timer_has_a_time_and_a_service() -> None:
    timer = read_unit("cnnlib-evaluate.timer")["Timer"]
    # Without Unit=, a timer starts the service with the same name.
    assert "Unit" not in timer
    ran = analyze_units("calendar", timer["OnCalendar"])
    assert ran.returncode == 0, ran.stderr


def test_service_runs_once_per_start_from_the_checkout() -> None:
    service = read_unit("cnnlib-evaluate.service")["Service"]
    assert service["Type"] == "oneshot"
    assert service["WorkingDirectory"] == HOME
    assert service["ExecStart"].startswith(f"{HOME}/.venv/bin/python -m jobs.evaluate --pending ")


def test_example_sets_every_variable_of_the_command_and_no_secret() -> None:
    command = read_unit("cnnlib-evaluate.service")["Service"]["ExecStart"]
    lines = (FOLDER / "evaluate.env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    used = set(re.findall(r"\$\{(\w+)}", command))
    assert used == {"RUNS_URI", "DATA_URI", "REPORTS_URI"}
    assert used <= set(given)
    assert not [name for name in given if "KEY" in name]
