"""The pages as text: what they show, what they leave out, and that no value becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cnnlib.errors import ReportError
from cnnlib.metrics.per_class import Proportion
from cnnlib.reports.comparison import Comparison, Difference
from cnnlib.runs.history import encode_history
from cnnlib.storage import files, layout
from cnnlib.views.page.publish import draw_page, publish_pages
from cnnlib.views.page.report_data import load_report_data
from cnnlib.views.page.sections.comparison import class_lines, describe_comparison
from cnnlib.views.page.sections.verdict import build_verdict, lies_below
from jobs import report as report_job
from tests.histories import make_history
from tests.pages import Reports, write_gates, write_scored, write_small_reports

HOSTILE = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(2)>", "</script><!--")


class Page(HTMLParser):
    """A parsed page: its tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.text = html, [], ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for attributes in self.all("section") if "id" in attributes]

    @property
    def mistakes(self) -> Any:
        match = re.search(
            r'<script type="application/json" id="mistakes-json">(.*?)</script>', self.html, re.S
        )
        assert match
        return json.loads(match.group(1))


def draw(reports: Reports, report_id: str | None = None, page_uri: str = "/elsewhere/page.html") -> Page:
    return Page(draw_page(reports.uri, page_uri, report_id))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return write_small_reports(tmp_path_factory.mktemp("small"))


@pytest.fixture
def own_reports(tmp_path: Path) -> Reports:
    return write_small_reports(tmp_path)


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


@pytest.mark.parametrize(
    ("verdicts", "shown"),
    [(["pass"] * 2, 2), (["pass"] * 12, 3), (["pass"] * 5 + ["fail"] * 4 + ["inconclusive"], 5)],
)
def test_checks_that_did_not_pass_are_visible_and_few_others(verdicts: list[str], shown: int) -> None:
    verdict = build_verdict([{"verdict": each} for each in verdicts])
    assert verdict is not None
    assert len(verdict.shown) == shown
    assert [*verdict.shown, *verdict.folded] == verdict.checks
    assert {check["verdict"] for check in verdict.folded} <= {"pass"}


def test_hostile_names_are_text_and_never_markup(tmp_path: Path) -> None:
    hostile = write_small_reports(tmp_path, class_names=HOSTILE)
    plain = write_small_reports(tmp_path / "plain", class_names=("a", "b", "c"))
    for hostile_page, plain_page in (
        (draw(hostile, hostile.ids[1]), draw(plain, plain.ids[1])),
        (draw(hostile), draw(plain)),
    ):
        assert "<script>alert" not in hostile_page.html
        assert [tag for tag, _ in hostile_page.tags if tag in ("script", "img")] == [
            tag for tag, _ in plain_page.tags if tag in ("script", "img")
        ]
        assert not [
            tag for tag, attributes in hostile_page.tags if any(a.startswith("on") for a in attributes)
        ]
        assert HOSTILE[0] in hostile_page.text
    assert draw(hostile, hostile.ids[1]).mistakes["names"] == list(HOSTILE)


@pytest.mark.parametrize("kind", ["report", "history"])
def test_policy_allows_this_style_and_script_and_nothing_else(reports: Reports, kind: str) -> None:
    page = draw(reports, reports.ids[1] if kind == "report" else None)
    (policy,) = [
        each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ]
    style = re.search(r"<style>(.*?)</style>", page.html, re.S)
    script = re.search(r"<script>(.*?)</script>", page.html, re.S)
    assert style
    assert script
    hashes = [
        "sha256-" + base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode()
        for found in (style, script)
    ]
    assert policy == (
        f"default-src 'none'; style-src '{hashes[0]}'; script-src '{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not [tag for tag, attributes in page.tags if "style" in attributes], "the policy would refuse it"


@pytest.mark.parametrize("kind", ["report", "history"])
def test_page_refers_to_nothing_outside_itself(reports: Reports, kind: str) -> None:
    page = draw(reports, reports.ids[1] if kind == "report" else None)
    references = [
        attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes
    ]
    assert references
    assert [each for each in references if not each.startswith(("data:image/png;base64,", "#"))] == []
    assert not page.all("link")


def test_data_that_is_gone_leaves_a_page_that_says_so(own_reports: Reports) -> None:
    shutil.rmtree(own_reports.data_uri)
    page = draw(own_reports, own_reports.ids[0])
    assert "No data set at" in page.text
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
    counts = load_report_data(reports.uri, reports.ids[1]).counts
    mistaken = {f"{i}-{j}" for i in range(3) for j in range(3) if i != j and counts[i, j]}
    assert {each["data-pair"] for each in page.all("button") if "data-pair" in each} == mistaken
    assert set(page.mistakes["pairs"]) == mistaken
    assert all(
        entry["count"] == counts[tuple(map(int, key.split("-")))]
        for key, entry in page.mistakes["pairs"].items()
    )


def test_the_same_report_gives_the_same_page(reports: Reports) -> None:
    assert draw(reports, reports.ids[1]).html == draw(reports, reports.ids[1]).html


def test_interval_below_the_one_before_is_worse_and_a_class_without_rows_never() -> None:
    def row(low: float | None, high: float | None) -> dict[str, float | None]:
        return {"accuracy_low": low, "accuracy_high": high}

    assert lies_below(row(0.1, 0.2), row(0.3, 0.4))
    assert not lies_below(row(0.1, 0.3), row(0.3, 0.4))
    assert not lies_below(row(None, None), row(0.3, 0.4))
    assert not lies_below(row(0.1, 0.2), row(None, None))


def test_class_that_fell_significantly_is_named_and_one_that_did_not_is_not() -> None:
    def difference(name: str, points: float, p_value: float) -> Difference:
        a, b = (
            Proportion(fraction, fraction - 0.01, fraction + 0.01) for fraction in (0.8, 0.8 + points / 100)
        )
        low, high = points - 1, points + 1
        return Difference(
            name=name, a=a, b=b, points=points, low=low, high=high, p_value=p_value, lost=None, won=None
        )

    classes = (difference("Shirt", -5, 0.001), difference("Coat", -2, 0.3), difference("Bag", 3, 0.01))
    comparison = Comparison(overall=difference("all", -2, 0.001), classes=classes, unpaired_because=None)
    assert describe_comparison(comparison, "demo@1") == (
        "The accuracy is 2.0 points lower than in the previous report (demo@1, 80.0%); "
        "95% interval: 1.0 to 3.0 points.",
        "Significantly worse: Shirt.",
        "Significantly better: Bag.",
    )
    lines = class_lines([{"class_name": each.name} for each in classes], comparison)
    assert [(line.change, line.worse) for line in lines] == [("−5.0", True), ("−2.0", False), ("+3.0", False)]
    assert "(small-cnn@1, 80.0%)" in describe_comparison(comparison, "small-cnn@1")[0]
    noise = Comparison(overall=difference("all", 0.5, 0.4), classes=(), unpaired_because="x")
    assert describe_comparison(noise, "demo@1") == (
        "The accuracy is 0.5 points higher than in the previous report (demo@1, 80.0%); this may be chance. "
        "The reports could not be compared row by row.",
    )


def test_history_page_has_a_trend_for_every_split_and_class(reports: Reports) -> None:
    page = draw(reports)
    assert "2 evaluation reports" in page.text
    charts = [each["aria-label"] for each in page.all("svg") if each.get("role") == "img"]
    assert [label for label in charts if "Accuracy of Bag over 2 reports" in label]
    assert len(charts) == 2 + 3  # all classes, for a wide window and for a phone; every class


def test_history_page_of_one_report_shows_its_interval(tmp_path: Path) -> None:
    alone = write_small_reports(tmp_path, reports=1)
    page = draw(alone)
    assert "1 report on these images. The vertical bar is the 95% interval." in page.text
    assert "The band is" not in page.text
    charts = len([each for each in page.all("svg") if each.get("role") == "img"])
    classes = [each["class"] for each in page.all("path") if "class" in each]
    assert classes.count("whisker") == charts == 2 + 3
    assert "band l0" not in classes
    accuracy = spoken_accuracy(alone)
    assert f"Accuracy of all classes in 1 report: {accuracy}." in [
        each.get("aria-label") for each in page.all("svg")
    ]


def spoken_accuracy(reports: Reports) -> str:
    """Returns the newest report's accuracy and interval, as a screen reader reads them."""
    overall = load_report_data(reports.uri, reports.ids[-1]).overall
    ends = f"{100 * overall['accuracy_low']:.1f}–{100 * overall['accuracy_high']:.1f}%"
    return f"{100 * overall['accuracy']:.1f}%, 95% interval {ends}"


def test_history_page_of_several_reports_has_bands_and_no_whiskers(reports: Reports) -> None:
    page = draw(reports)
    assert "2 reports on the same images, oldest on the left. The band is the 95% interval." in page.text
    classes = [each["class"] for each in page.all("path") if "class" in each]
    assert classes.count("band l0") == 2 + 3
    assert "whisker" not in classes


def test_published_pages_link_to_each_other_and_others_to_nothing(own_reports: Reports) -> None:
    uri, (first, second) = own_reports.uri, own_reports.ids
    written = publish_pages(uri, [second], changed=[second])
    assert written == [layout.report_page(uri, second), layout.history_page(uri)]
    history = Page(files.read_bytes(layout.history_page(uri)).decode())
    links = {each["href"] for each in history.all("a") if each["href"].endswith(".html")}
    assert links == {f"{second}.html"}, "the other report has no page"
    page = Page(files.read_bytes(layout.report_page(uri, second)).decode())
    assert {each["href"] for each in page.all("a") if each["href"].endswith(".html")} == {"index.html"}
    publish_pages(uri, [first, second], changed=[])
    history = Page(files.read_bytes(layout.history_page(uri)).decode())
    links = {each["href"] for each in history.all("a") if each["href"].endswith(".html")}
    assert links == {f"{first}.html", f"{second}.html"}
    assert not [each for each in draw(own_reports).all("a") if each["href"].endswith(".html")]


def test_page_that_exists_is_kept_unless_its_report_changed(own_reports: Reports) -> None:
    first, second = own_reports.ids
    for report_id in own_reports.ids:
        files.write_bytes(layout.report_page(own_reports.uri, report_id), b"as it was")
    publish_pages(own_reports.uri, own_reports.ids, changed=[second])
    assert files.read_bytes(layout.report_page(own_reports.uri, first)) == b"as it was"
    assert files.read_bytes(layout.report_page(own_reports.uri, second)) != b"as it was"


def test_page_that_cannot_be_drawn_is_logged_and_stops_neither_the_others_nor_the_caller(
    own_reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = own_reports.ids
    Path(layout.report_table(own_reports.uri, "confusion", first)).write_bytes(b"rot")
    written = publish_pages(own_reports.uri, own_reports.ids, changed=own_reports.ids)
    assert written == [layout.report_page(own_reports.uri, second), layout.history_page(own_reports.uri)]
    err = capsys.readouterr().err
    assert "page_not_drawn" in err
    assert "is not what its manifest says" in err


def test_history_leaves_out_a_damaged_report_and_names_it(
    own_reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = own_reports.ids
    Path(layout.report_table(own_reports.uri, "per_class", first)).write_bytes(b"rot")
    assert publish_pages(own_reports.uri, [second], changed=[second]) == [
        layout.report_page(own_reports.uri, second),
        layout.history_page(own_reports.uri),
    ]
    history = files.read_bytes(layout.history_page(own_reports.uri)).decode()
    assert f"2 evaluation reports, 1 damaged report left out: {first}" in history
    assert "report_left_out" in capsys.readouterr().err
    Path(layout.report_table(own_reports.uri, "per_class", second)).write_bytes(b"rot")
    with pytest.raises(ReportError, match=second):
        draw_page(own_reports.uri, layout.history_page(own_reports.uri))


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
