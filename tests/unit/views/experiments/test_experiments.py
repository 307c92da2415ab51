"""Tests the table of the accuracy and cost of models: which report stands for a model, and what the table says."""

from __future__ import annotations

import doctest
import io
import json
import struct
from pathlib import Path

import pytest
from rich.console import Console

from cnnlib.errors import ReportError
from cnnlib.models.cost_table import load_cost_table
from cnnlib.views.experiments import experiments
from cnnlib.views.experiments.experiments import list_experiments
from cnnlib.views.experiments.plots import experiments_png
from cnnlib.views.terminal.experiments import render_experiments
from tests.report_folders import write_metrics

COSTS = {"parameters": 47_090, "flops_per_image": 35_583_232, "images_per_s": 2000.0}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Writes reports of three models: a CNN with two, a DNN, and a file of unknown cost on another split."""
    reports = str(tmp_path)
    write_metrics(reports, minute=1, correct=91, model="seed-cnn", overall=COSTS)
    write_metrics(reports, minute=2, correct=88, model="seed-cnn", overall=COSTS)
    write_metrics(reports, minute=3, correct=90, model="dnn", overall=COSTS | {"parameters": 235_146})
    write_metrics(reports, minute=4, correct=95, model=None, checkpoint_uri="/m/mine.keras", split="extra")
    return reports


def render(reports: str, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(render_experiments(list_experiments(reports), load_cost_table()))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_best_report_stands_for_a_model_on_a_split(folder: str) -> None:
    found = [(each.model, each.record.correct, each.reports) for each in list_experiments(folder)]
    assert found == [("mine.keras", 95, 1), ("seed-cnn", 91, 2), ("dnn", 90, 1)]


def test_of_equally_good_reports_the_newest_is_taken(folder: str) -> None:
    newer = write_metrics(folder, minute=9, correct=91, model="seed-cnn", overall=COSTS)
    seed = next(each for each in list_experiments(folder) if each.model == "seed-cnn")
    assert (seed.record.report_id, seed.reports) == (newer, 3)


def test_reports_on_other_data_do_not_compete(folder: str) -> None:
    write_metrics(folder, minute=8, correct=99, model="seed-cnn", dataset_fingerprint="other")
    seeds = [each.record.correct for each in list_experiments(folder) if each.model == "seed-cnn"]
    assert seeds == [99, 91]


def test_costs_come_from_the_row_of_the_whole_split(folder: str) -> None:
    row = next(each for each in list_experiments(folder) if each.model == "dnn").to_row()
    assert (row["parameters"], row["flops_per_image"], row["images_per_s"]) == (235_146, 35_583_232, 2000.0)
    assert (row["accuracy"], row["correct"], row["reports"]) == (0.9, 90, 1)


def test_table_shows_accuracy_and_costs_in_eighty_columns(folder: str) -> None:
    lines = render(folder).splitlines()
    assert max(map(len, lines)) <= 80
    seed = next(line for line in lines if line.startswith("seed-cnn") and "fashion-mnist" in line)
    assert seed.split() == ["seed-cnn", "fashion-mnist/test", "91.0", "83.8-95.2", "47,090", "35.6", "2,000"]
    mine = next(line for line in lines if line.startswith("mine.keras"))
    assert mine.split() == ["mine.keras", "fashion-mnist/extra", "95.0", "88.8-97.8", "-", "-", "50"]
    assert "selected on the same rows: seed-cnn 2." in " ".join(" ".join(lines).split())


def test_table_shows_how_costs_grow_to_4k(folder: str) -> None:
    lines = [line.split() for line in render(folder).splitlines()]
    assert ["dnn", "3840x2160", "2,123,400,842", "4,246.8", "32,401.5"] in lines
    assert ["small-cnn", "28x28", "178,754", "28.8", "603.7"] in lines
    text = " ".join(render(folder).split())
    assert "From 28x28 to 3840x2160, 10,580 times the pixels:" in text
    assert "small-cnn: the same parameters, operations x10,579" in text


def test_rows_are_json(folder: str) -> None:
    rows = [cost.to_row() for cost in load_cost_table()]
    assert json.loads(json.dumps(rows)) == rows
    assert rows[0] == {
        "model": "seed-cnn",
        "height": 28,
        "width": 28,
        "channels": 1,
        "parameters": 47_090,
        "flops_per_image": 35_583_232,
        "activation_bytes": 375_592,
    }


def test_picture_is_a_png_of_its_size_and_the_same_for_the_same_reports(folder: str) -> None:
    first, second = (experiments_png(list_experiments(folder), load_cost_table()) for _ in range(2))
    assert first == second
    assert struct.unpack(">II", first[16:24]) == (1500, 1080)


def test_picture_can_be_drawn_for_a_split_without_rows(tmp_path: Path) -> None:
    write_metrics(str(tmp_path), correct=0)
    found = list_experiments(str(tmp_path))
    empty = [type(each)(**{**vars(each), "record": replace_accuracy(each.record)}) for each in found]
    assert experiments_png(empty, load_cost_table()).startswith(b"\x89PNG")


def test_picture_shows_names_as_they_are_also_with_dollar_signs(tmp_path: Path) -> None:
    write_metrics(str(tmp_path), model="a.b:c", minute=1, dataset_uri="/data/$x^{$")
    write_metrics(str(tmp_path), model=None, minute=2, checkpoint_uri="/m/$y^{$.keras")
    assert experiments_png(list_experiments(str(tmp_path)), load_cost_table()).startswith(b"\x89PNG")


def replace_accuracy(record: experiments.ReportRecord) -> experiments.ReportRecord:
    from dataclasses import replace

    from cnnlib.metrics.intervals import Proportion

    return replace(record, accuracy=Proportion(None, None, None))


def test_folder_without_reports_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No reports in"):
        list_experiments(str(tmp_path))


def test_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(experiments).attempted >= 1
    assert doctest.testmod(experiments).failed == 0
