"""A page, a table and a history of many classes stay small, and say what they leave out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cnnlib.models.activations import build_maps
from cnnlib.reports.build import build_activations
from cnnlib.reports.comparison import compare_reports
from cnnlib.reports.manifest import read_record
from cnnlib.reports.predictions import read_predictions
from cnnlib.reports.read import read_report, read_table
from cnnlib.views.page.publish import draw_page
from cnnlib.views.page.sections.classes import FEW_BARS, MAX_LINES
from cnnlib.views.terminal.comparison import render_comparison
from cnnlib.views.terminal.tables import MAX_CLASSES, render_report
from tests.many_classes import write_many_classes
from tests.page_html import Page
from tests.pages import write_small_reports

MAX_BYTES = 3_000_000


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Writes two reports of 1,000 classes with long names; returns their folder and the id of the second."""
    folder, name = (
        str(tmp_path_factory.mktemp("thousand")),
        "a class whose name is as long as some of ImageNet",
    )
    return folder, [write_many_classes(folder, 1000, 3000, seed=seed, name=name) for seed in (0, 1)][1]


def draw(folder: str, name: str | None) -> Page:
    return Page(draw_page(folder, "/elsewhere/page.html", name))


def lines_of(renderable: object) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(renderable)
    return out.getvalue().splitlines()


def test_page_of_a_thousand_classes_has_them_all_in_3_mb(thousand: tuple[str, str]) -> None:
    page, report = draw(*thousand), read_report(*thousand)
    assert len(page.html.encode()) < MAX_BYTES
    headers = [each for each in page.all("th") if each.get("scope") == "row"]
    assert len(headers) == 1000
    assert [each for each in page.all("input") if each["id"] == "class-search"]
    assert f"The {FEW_BARS} of 1,000 classes with the lowest accuracy." in page.text
    known = (row for row in report.classes if row["support"])
    lowest = min(known, key=lambda row: (row["accuracy"], row["accuracy_high"]))
    assert f"{lowest['class_name']} has the lowest accuracy" in page.text
    buttons = [each["data-pair"] for each in page.all("button") if "data-pair" in each]
    assert 0 < len(buttons) <= 40
    assert set(buttons) == set(page.mistakes["pairs"])
    assert set(page.mistakes["names"]) == {index for pair in buttons for index in pair.split("-")}


def test_table_of_pairs_has_only_those_with_rows(thousand: tuple[str, str]) -> None:
    folder, name = thousand
    table = read_table(folder, "confusion", [name])
    assert table["count"].to_numpy().min() == 1
    assert table["count"].to_numpy().sum() == 3000
    predictions = read_predictions(folder, name)
    happened = set(zip(predictions["label"].to_pylist(), predictions["prediction"].to_pylist(), strict=True))
    assert set(zip(table["true"].to_pylist(), table["predicted"].to_pylist(), strict=True)) == happened


def test_history_of_a_thousand_classes_is_small_and_counts_the_classes_without_a_chart(
    thousand: tuple[str, str],
) -> None:
    page = draw(thousand[0], None)
    assert len(page.html.encode()) < MAX_BYTES
    known = sum(row["accuracy"] is not None for row in read_report(*thousand).classes)
    assert f"{known - 60} more are in the table per_class" in page.text


def test_terminal_shows_the_worst_classes_and_how_many_more_there_are(thousand: tuple[str, str]) -> None:
    report = read_report(*thousand)
    lines = lines_of(render_report(report))
    assert len(lines) < 6 * MAX_CLASSES  # names are folded
    assert (
        f"{1000 - MAX_CLASSES} more classes, with a higher accuracy, are in the table per_class"
        in " ".join(lines)
    )


def test_comparison_of_a_thousand_classes_is_that_of_each_class(thousand: tuple[str, str]) -> None:
    folder, name = thousand
    a, b = read_report(folder, name), read_report(folder, name)
    comparison = compare_reports(folder, a, b)
    assert comparison.unpaired_because is None
    assert [(each.name, each.b.fraction) for each in comparison.classes] == [
        (row["class_name"], row["accuracy"]) for row in b.classes
    ]
    record = read_record(folder, name)
    assert "more classes, with larger p-values" in " ".join(
        lines_of(render_comparison(record, record, comparison))
    )


def test_20000_classes_have_their_table_and_a_small_page(tmp_path: Path) -> None:
    name = write_many_classes(str(tmp_path), 20_000, 120)
    report, page = read_report(str(tmp_path), name), draw(str(tmp_path), name)
    assert [row["class_index"] for row in report.classes] == list(range(20_000))
    assert sum(row["support"] for row in report.classes) == 120
    assert sum(row["correct"] for row in report.classes) == report.record.correct > 0
    assert len(page.html.encode()) < MAX_BYTES
    known = sum(row["accuracy"] is not None for row in report.classes)
    headers = [each for each in page.all("th") if each.get("scope") == "row"]
    assert len(headers) == known < MAX_LINES
    assert f"{known} of 20,000 classes: those with the lowest accuracy" in page.text


def test_page_with_the_largest_contents_stays_under_3_mb(tmp_path: Path) -> None:
    """Noise cannot be compressed: no real photograph and no real map of activations takes more."""
    rng = np.random.default_rng(0)
    layers = [
        build_maps(
            rng.normal(size=(64, 64, 64, 1)), layer_index=index, layer=f"conv {index}", kind="activation"
        )
        for index in range(16)
    ]
    many = write_small_reports(
        tmp_path,
        class_names=[f"a class with the long name {index}" for index in range(1000)],
        image_shape=(70, 90, 3),
        rows=2100,
        reports=1,
        activations=build_activations(0, layers),
    )
    page = draw(many.uri, many.ids[0])
    assert len(page.html.encode()) < MAX_BYTES
    assert {"classes", "confusion", "mistakes", "activations"} <= set(page.sections)
    assert len([each for each in page.all("th") if each.get("scope") == "row"]) == 1000
    assert len([each for each in page.all("img") if "photo" in each.get("class", "")]) == 24
    shown = [row for pair in page.mistakes["pairs"].values() for row in pair["rows"]]
    assert len(shown) > 20
    assert all(place is not None for place, *_ in shown)
