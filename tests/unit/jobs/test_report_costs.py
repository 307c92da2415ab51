"""`python -m jobs.report --experiments` and `--prometheus` print and write the costs of models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnlib.views.export.prometheus import prometheus_text
from jobs import report
from tests.processes import run_job_and_list_imports
from tests.report_folders import write_metrics


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two reports, of a CNN and a DNN."""
    reports = tmp_path / "reports"
    write_metrics(str(reports), minute=1, correct=91, model="seed-cnn", run="cnn")
    write_metrics(str(reports), minute=2, correct=88, model="dnn", run="dnn")
    return reports


def test_experiments_are_shown_and_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = folder.parent / "deep" / "out.png"
    assert report.main([str(folder), "--experiments", "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if "mnist/test" in line] == ["seed-cnn", "dnn"]
    assert "3840x2160" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_experiments_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(folder), "--experiments", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["accuracy"]) for row in result["experiments"]] == [
        ("seed-cnn", 0.91),
        ("dnn", 0.88),
    ]
    assert {row["model"] for row in result["growth"]} == {"seed-cnn", "small-cnn", "dnn"}
    assert result["plot"] is None


def test_gauges_go_to_stdout_as_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(folder), "--prometheus", "-"]) == 0
    assert capsys.readouterr().out == prometheus_text(str(folder), 20)


def test_gauges_replace_the_file_and_leave_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder.parent / "textfile" / "cnnlib.prom"
    for limit, runs in ((2, 2), (1, 1)):
        assert report.main([str(folder), "--prometheus", str(target), "--limit", str(limit)]) == 0
        assert capsys.readouterr().out == ""
        assert target.read_text().count("\ncnnlib_report_accuracy_ratio{") == runs
    # The node exporter would also read a temporary file, and show every series twice.
    assert list(target.parent.iterdir()) == [target]


def test_gauges_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(folder), "--prometheus", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "prometheus": "-",
        "text": prometheus_text(str(folder), 20),
    }


@pytest.mark.parametrize("flags", [["--experiments"], ["--prometheus", "-"]], ids=lambda flags: flags[0])
def test_costs_need_neither_tensorflow_nor_ray(folder: Path, flags: list[str]) -> None:
    heavy = {"tensorflow", "keras", "ray", "matplotlib"}
    ran = run_job_and_list_imports("report", str(folder), *flags, of=heavy)
    assert (ran.returncode, ran.stderr) == (0, "set()\n")
