"""Tests the page of a report as text: what it shows and what it leaves out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnnlib.runs.history import encode_history
from cnnlib.storage import files, layout
from cnnlib.views.page.publish import draw_page
from cnnlib.views.page.report_data import load_report_data
from cnnlib.views.page.sections.verdict import build_verdict
from jobs import report as report_job
from tests.histories import make_history
from tests.page_html import draw
from tests.pages import Reports, write_gates, write_scored, write_small_reports


def test_page_states_the_accuracy_and_the_report_before(reports: Reports) -> None:
    data = load_report_data(reports.uri, reports.ids[1])
    page = draw(reports, reports.ids[1])
    assert f"{100 * data.overall['accuracy']:.1f}%" in page.text
    assert f"of {data.record.rows} images classified correctly" in page.text
    assert data.previous is not None
    assert data.previous.record.report_id == reports.ids[0]
    ends = (f"points {how} than in the previous report (1.keras, " for how in ("higher", "lower"))
    assert any(end in page.text for end in ends)


def test_first_report_compares_with_nothing(reports: Reports) -> None:
    page = draw(reports, reports.ids[0])
    assert "previous report" not in page.text
    assert "tick marks" not in page.text


def test_parts_without_data_are_left_out_and_not_shown_empty(reports: Reports) -> None:
    page = draw(reports, reports.ids[0])
    assert page.sections == ["classes", "confusion", "mistakes", "calibration", "cost", "provenance"]
    anchors = [a["href"] for a in page.all("a") if a["href"].startswith("#") and a["href"] != "#content"]
    assert anchors == [f"#{section}" for section in page.sections]
    assert not [tag for tag, attributes in page.tags if "verdict" in attributes.get("class", "")]


def test_page_of_a_run_shows_its_learning_curves(own_reports: Reports, tmp_path: Path) -> None:
    assert "learning-curves" not in draw(own_reports, own_reports.ids[0]).sections
    record = load_report_data(own_reports.uri, own_reports.ids[0]).record
    run = tmp_path / "runs" / "demo"
    files.write_bytes(layout.run_history(str(run)), encode_history(make_history([0.5, 0.6])))
    report_id = rewrite(own_reports, str(run / "checkpoints" / "epoch-0002"), record)
    page = draw(own_reports, report_id)
    assert "learning-curves" in page.sections
    assert (
        "Training loss from 1.000 to 0.500, validation loss from 0.500 to 0.500, over 2 epochs." in page.html
    )


def test_run_that_diverged_has_curves_up_to_there(own_reports: Reports, tmp_path: Path) -> None:
    record = load_report_data(own_reports.uri, own_reports.ids[0]).record
    run = tmp_path / "runs" / "diverged"
    first, second = make_history([0.5, 0.6])
    history = [first, replace(second, loss=float("nan"), validation_loss=None)]
    files.write_bytes(layout.run_history(str(run)), encode_history(history))
    page = draw(own_reports, rewrite(own_reports, str(run / "checkpoints" / "epoch-0002"), record))
    assert "Training loss from 1.000 to 1.000, validation loss from 0.500 to 0.500" in page.html
    assert "nan" not in page.html.lower().split('id="learning-curves"')[1].split("</section>")[0]


def rewrite(reports: Reports, checkpoint_uri: str, record: Any) -> str:
    """Writes another report on the same data, for a checkpoint of a run; returns its id."""
    from datetime import timedelta

    import numpy as np

    from cnnlib.dataset.manifest import load_manifest
    from tests.datasets import make_source

    split = make_source(test_rows=60).splits["test"]
    return write_scored(
        reports.uri,
        reports.data_uri,
        load_manifest(reports.data_uri),
        split,
        np.full((60, 3), 1 / 3),
        checkpoint_uri=checkpoint_uri,
        run="demo",
        epoch=2,
        evaluated_at=record.evaluated_at + timedelta(days=1),
    )


@pytest.mark.parametrize(
    ("verdicts", "expected", "sentence"),
    [
        (["pass"], "pass", "1 check passed."),
        (
            ["inconclusive", "pass"],
            "inconclusive",
            "1 of 2 checks could not be decided with this number of images.",
        ),
        (["pass", "inconclusive", "fail"], "fail", "1 of 3 checks failed."),
    ],
)
def test_verdict_is_the_worst_of_the_checks_and_every_reason_is_shown(
    own_reports: Reports, verdicts: list[str], expected: str, sentence: str
) -> None:
    write_gates(own_reports.uri, own_reports.ids[0], verdicts)
    page = draw(own_reports, own_reports.ids[0])
    boxes = [attributes["class"] for attributes in page.all("section") if "class" in attributes]
    assert boxes == [f"verdict {expected}"]
    assert sentence in page.text
    verdict = build_verdict(load_report_data(own_reports.uri, own_reports.ids[0]).gates)
    assert verdict is not None
    assert verdict.checks[0]["verdict"] == expected
    assert all(check["reason"] in page.text for check in verdict.checks)


def test_data_that_is_gone_leaves_a_page_that_says_so(own_reports: Reports) -> None:
    shutil.rmtree(own_reports.data_uri)
    page = draw(own_reports, own_reports.ids[0])
    assert "No dataset at" in page.text
    assert not page.all("img")
    assert page.mistakes["pairs"]
    assert all(row[0] is None for pair in page.mistakes["pairs"].values() for row in pair["rows"])


def test_report_without_predictions_has_a_matrix_without_buttons(tmp_path: Path) -> None:
    without = write_small_reports(tmp_path, reports=1, predictions=False)
    page = draw(without, without.ids[0])
    assert "this report was made without predictions" in page.text
    assert "mistakes" not in page.sections
    assert not [each for each in page.all("button") if "data-pair" in each]


def test_predictions_that_are_gone_leave_a_page_that_says_so(own_reports: Reports) -> None:
    shutil.rmtree(layout.report_predictions(own_reports.uri, own_reports.ids[0]))
    page = draw(own_reports, own_reports.ids[0])
    assert "Individual mistakes are not shown." in page.text


def test_many_classes_are_a_list_of_pairs(tmp_path: Path) -> None:
    many = write_small_reports(tmp_path, class_names=[f"class {index}" for index in range(35)], reports=1)
    page = draw(many, many.ids[0])
    assert not [each for each in page.all("table") if each.get("id") == "matrix"]
    buttons = [each["data-pair"] for each in page.all("button") if "data-pair" in each]
    assert buttons
    assert set(buttons) == set(page.mistakes["pairs"])


def test_cells_that_open_are_the_pairs_with_images(reports: Reports) -> None:
    page = draw(reports, reports.ids[1])
    counts = load_report_data(reports.uri, reports.ids[1]).counts.to_matrix()
    mistaken = {f"{i}-{j}" for i in range(3) for j in range(3) if i != j and counts[i, j]}
    assert {each["data-pair"] for each in page.all("button") if "data-pair" in each} == mistaken
    assert set(page.mistakes["pairs"]) == mistaken
    assert all(
        entry["count"] == counts[tuple(map(int, key.split("-")))]
        for key, entry in page.mistakes["pairs"].items()
    )


def test_the_same_report_gives_the_same_page(reports: Reports) -> None:
    assert draw(reports, reports.ids[1]).html == draw(reports, reports.ids[1]).html


@pytest.mark.parametrize("ids", [["latest"], []], ids=["report", "history"])
def test_job_writes_the_requested_page(
    reports: Reports, tmp_path: Path, ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "some folder" / "out.html"
    assert report_job.main([reports.uri, *ids, "--html", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"page": str(out)}
    assert out.read_text() == draw_page(reports.uri, str(out), reports.ids[1] if ids else None)


def test_job_draws_no_page_of_two_reports(
    reports: Reports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.html"
    with pytest.raises(SystemExit) as stopped:
        report_job.main([reports.uri, "latest", "previous", "--html", str(out)])
    assert stopped.value.code == 2
    assert "--html draws one report" in capsys.readouterr().err
    assert not out.exists()
