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
    assert a.split()[2:5] == ["3", "80.0%", "70.0%-90.0%"]
    assert main([reports, "--seeds", "--json"]) == 0
    [first, _] = json.loads(capsys.readouterr().out.splitlines()[-1])["seeds"]
    assert (first["median_accuracy"], first["lowest_accuracy"], first["highest_accuracy"]) == (0.8, 0.7, 0.9)
    assert first["accuracy_low"] < 0.8 < first["accuracy_high"]


def test_seeds_and_experiments_are_two_views(reports: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([reports, "--seeds", "--experiments"])
    assert "Expected one of: ids, --experiments, --seeds, --prometheus" in capsys.readouterr().err
