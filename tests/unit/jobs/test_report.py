"""Tests `python -m jobs.report`: its output, its exit codes, and the libraries that it must not load."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cnnlib.reports.result import EvaluationResult, installed_versions
from cnnlib.reports.subject import ReportSubject
from cnnlib.reports.write import write_report
from jobs import report
from tests.processes import run_job_and_list_imports
from tests.reports_of_rows import with_mistakes, write_rows
from tests.scores import make_rows, make_sums

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def reports(tmp_path: Path) -> list[str]:
    """Writes the reports of epochs 1 and 2 of a run into tmp_path; returns their ids, oldest first."""
    return [write(tmp_path, epoch) for epoch in (1, 2)]


def write(folder: Path, epoch: int) -> str:
    subject = ReportSubject(
        checkpoint_digest=f"digest {epoch}",
        dataset_fingerprint="fingerprint",
        split="test",
        evaluation={"top_k": 1},
        class_names=("Coat", "Bag"),
        checkpoint_uri=f"/runs/demo/checkpoints/epoch-{epoch:04d}",
        dataset_uri="/data/fashion-mnist",
        run="demo",
        model="small-cnn",
        checkpoint_epoch=epoch,
    )
    counts = [[9 - epoch, 1 + epoch], [0, 10]]
    written = write_report(
        str(folder),
        EvaluationResult(
            subject=subject,
            sums=make_sums(counts, top_k=1),
            rows=make_rows(counts),
            evaluated_at=datetime(2026, 11, 22, 6, epoch, tzinfo=UTC),
            seconds=1.0,
            versions=installed_versions(),
        ),
    )
    return written.report_id


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = report.main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *argv: object) -> Any:
    code, out, _ = run(capsys, *argv, "--json")
    assert code == 0
    assert out.count("\n") == 1
    return json.loads(out)


def test_without_an_id_the_newest_reports_are_listed(
    tmp_path: Path, reports: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, tmp_path)
    lines = [line for line in out.splitlines() if "demo@" in line]
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in lines] == [reports[1][:8], reports[0][:8]]


def test_limit_cuts_the_list(tmp_path: Path, reports: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    listed = run_json(capsys, tmp_path, "--limit", 1)["reports"]
    assert [row["report_id"] for row in listed] == reports[1:]


@pytest.mark.parametrize("name", ["latest", "id", "short id"])
def test_one_id_shows_that_report(
    tmp_path: Path, reports: list[str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    names = {"latest": "latest", "id": reports[1], "short id": reports[1][:6]}
    code, out, err = run(capsys, tmp_path, names[name])
    assert (code, err) == (0, "")
    assert f"report {reports[1]}" in out
    assert [line.split()[:4] for line in out.splitlines()[4:6]] == [
        ["Coat", "10", "7", "70.0"],
        ["Bag", "10", "10", "100.0"],
    ]


def test_two_ids_are_compared_in_their_order(
    tmp_path: Path, reports: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(capsys, tmp_path, "previous", "latest")
    assert (result["a"]["report_id"], result["b"]["report_id"]) == tuple(reports)
    assert result["unpaired_because"].startswith(f"Report {reports[0]} has no predictions")
    assert result["words"].startswith("B is worse than A by 5.0 points (")
    assert result["classes"][0] == {
        "class_name": "Coat",
        "accuracy_a": 0.8,
        "accuracy_b": 0.7,
        "points": pytest.approx(-10.0),
        "points_low": pytest.approx(-43.54, abs=0.01),
        "points_high": pytest.approx(26.46, abs=0.01),
        "p_value": 1.0,
        "distinguishable": False,
        "right_to_wrong": None,
        "wrong_to_right": None,
    }
    code, out, _ = run(capsys, tmp_path, "previous", "latest")
    assert code == 0
    assert out.index(f"A {reports[0]}") < out.index(f"B {reports[1]}")


def test_rows_that_flipped_are_in_the_json_of_reports_with_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [0] * 10 + [1] * 10
    a, b = (
        write_rows(tmp_path, labels, with_mistakes(labels, wrong), epoch=epoch)
        for epoch, wrong in ((1, [0, 1]), (2, [1, 2, 3]))
    )
    result = run_json(capsys, tmp_path, a, b)
    assert result["unpaired_because"] is None
    assert result["overall"]["right_to_wrong"] == {"total": 2, "ids": [2, 3]}
    assert result["classes"][0]["wrong_to_right"] == {"total": 1, "ids": [0]}
    assert result["classes"][1]["right_to_wrong"] == {"total": 0, "ids": []}


def test_more_ids_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [0] * 50 + [1] * 50
    ids = [
        write_rows(tmp_path, labels, with_mistakes(labels, range(wrong)), epoch=epoch)
        for epoch, wrong in ((1, 40), (2, 2), (3, 3))
    ]
    result = run_json(capsys, tmp_path, *ids)
    assert [row["report_id"] for row in result["ranking"]] == [ids[1], ids[2], ids[0]]
    assert [row["groups"] for row in result["ranking"]] == [["a"], ["a"], ["b"]]
    assert [(pair["better"], pair["worse"]) for pair in result["pairs"]] == [
        (ids[1], ids[2]),
        (ids[1], ids[0]),
        (ids[2], ids[0]),
    ]
    code, out, _ = run(capsys, tmp_path, *ids)
    assert code == 0
    assert out.startswith(
        f"demo@2 ({ids[1][:8]}) has the highest accuracy; not distinguishable from it: demo@3"
    )


def test_json_of_one_report_has_the_columns_of_its_tables(
    tmp_path: Path, reports: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(capsys, tmp_path, reports[0])
    assert (result["report"]["report_id"], result["report"]["correct"]) == (reports[0], 18)
    assert result["report"]["evaluated_at"] == "2026-11-22T06:01:00+00:00"
    assert [(row["class_name"], row["support"], row["correct"]) for row in result["classes"]] == [
        ("Coat", 10, 8),
        ("Bag", 10, 10),
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nope"], "No report 'nope'"),
        ([""], "No report ''"),
        (["latest", "latest"], "Expected each report once. Received latest latest: 1 different."),
        (["--limit", "0"], "limit must be at least 1. Received 0."),
        (["latest", "--experiments"], "Expected one of: ids, --experiments, --seeds, --ladder, --prometheus"),
        (
            ["--experiments", "--prometheus", "-"],
            "Expected one of: ids, --experiments, --seeds, --ladder, --prometheus",
        ),
        (["--plot", "out.png"], "--plot draws what --experiments or --ladder shows"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_exit_code_two(
    tmp_path: Path,
    reports: list[str],
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    try:
        code = report.main([str(tmp_path), *argv])
    except SystemExit as stopped:
        code = stopped.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_ambiguous_id_names_the_candidates(
    tmp_path: Path, reports: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for report_id in ("0123aaaaaaaaaaaa", "0123bbbbbbbbbbbb"):
        (tmp_path / "manifests" / f"{report_id}.json").write_text("{}")
    code, _, err = run(capsys, tmp_path, "0123")
    assert code == 2
    assert "short for 2 reports: 0123aaaaaaaaaaaa, 0123bbbbbbbbbbbb" in err


def test_folder_without_reports_exits_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, tmp_path / "missing")
    assert (code, out) == (2, "")
    assert err.startswith("error: No reports in")


def test_command_line_is_as_promised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        report.main(["--help"])
    assert stopped.value.code == 0
    usage = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert usage == "usage: python -m jobs.report [-h] [OPTIONS] REPORTS_URI [ID ...]"


def test_command_runs_without_tensorflow_and_ray(tmp_path: Path, reports: list[str]) -> None:
    heavy = {"tensorflow", "keras", "ray", "matplotlib"}
    ran = run_job_and_list_imports("report", str(tmp_path), "latest", of=heavy)
    assert (ran.returncode, ran.stderr) == (0, "set()\n")
    assert reports[1] in ran.stdout


def test_process_exits_with_the_code_and_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.report", str(tmp_path), "latest", "--json"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: No reports in")
    assert ran.stderr.count("\n") == 1
