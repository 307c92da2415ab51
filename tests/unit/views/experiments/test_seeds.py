"""Runs that differ in their seed are shown by their median, not by their best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnlib.views.experiments.seeds import list_seed_groups
from jobs.report import main
from tests.report_folders import write_metrics


@pytest.fixture
def reports(tmp_path: Path) -> str:
    """Three seeds of `a`, of which one has reports of two epochs; two of `b`; one of `c`; and a run without a seed."""
    runs = [
        ("a-seed-0", 80, 2), ("a-seed-1", 95, 1), ("a-seed-1", 70, 2), ("a-seed-10", 90, 2), ("b-seed-3", 60, 1),
        ("b-seed-4", 63, 1), ("c-seed-1", 99, 1), ("seed", 98, 1),
    ]  # fmt: skip
    for index, (run, correct, epoch) in enumerate(runs):
        write_metrics(
            str(tmp_path),
            minute=index,
            correct=correct,
            run=run,
            checkpoint_epoch=epoch,
            checkpoint_digest=f"d{index}",
        )
    return str(tmp_path)


def test_a_group_has_the_last_epoch_of_each_seed_and_a_median(reports: str) -> None:
    a, b = list_seed_groups(reports)
    assert (a.name, a.seeds, a.accuracies) == ("a", (0, 1, 10), [0.8, 0.7, 0.9])
    assert a.median == 0.8
    assert a.deviation == pytest.approx(0.1)
    assert a.middle.subject.run == "a-seed-0"
    assert (b.name, b.seeds, b.median) == ("b", (3, 4), pytest.approx(0.615))
    assert b.middle.subject.run == "b-seed-3", "of two in the middle, the worse one"


def test_the_table_shows_the_spread_beside_the_interval(
    reports: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([reports, "--seeds"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [a] = [line for line in lines if line.startswith("a ")]
    assert a.split()[2:6] == ["3", "2", "80.0%", "70.0%-90.0%"]
    assert main([reports, "--seeds", "--json"]) == 0
    [first, _] = json.loads(capsys.readouterr().out.splitlines()[-1])["seeds"]
    assert (first["median_accuracy"], first["lowest_accuracy"], first["highest_accuracy"]) == (0.8, 0.7, 0.9)
    assert first["accuracy_low"] < 0.8 < first["accuracy_high"]


def test_a_run_that_was_started_anew_replaces_the_longer_one_before_it(tmp_path: Path) -> None:
    for minute, (seed, correct, epoch, day) in enumerate(
        [(0, 99, 7, 1), (0, 60, 2, 2), (0, 50, 1, 2), (1, 80, 2, 2)]
    ):
        write_metrics(
            str(tmp_path),
            minute=minute,
            correct=correct,
            run=f"a-seed-{seed}",
            checkpoint_epoch=epoch,
            run_started_at=f"2026-11-0{day}T06:00:00+00:00",
        )
    [group] = list_seed_groups(str(tmp_path))
    assert (group.accuracies, [record.subject.checkpoint_epoch for record in group.records]) == (
        [0.6, 0.8],
        [2, 2],
    )


def test_the_table_shows_that_runs_were_not_trained_as_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, epoch in enumerate((2, 12)):
        write_metrics(str(tmp_path), run=f"a-seed-{seed}", checkpoint_epoch=epoch)
    assert main([str(tmp_path), "--seeds"]) == 0
    [a] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("a ")]
    assert a.split()[2:5] == ["2", "2-12", "80.0%"]


def test_a_folder_without_several_seeds_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_metrics(str(tmp_path), run="a-seed-0")
    assert main([str(tmp_path), "--seeds"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(
        "No reports about two runs that differ in their seed alone. Train some with jobs.train --seeds"
    )


def test_seeds_and_experiments_are_two_views(reports: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([reports, "--seeds", "--experiments"])
    assert "Expected one of: ids, --experiments, --seeds, --ladder, --prometheus" in capsys.readouterr().err
