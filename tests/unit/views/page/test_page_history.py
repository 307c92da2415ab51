"""Tests the history page, and the pages in the folder `pages`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlib.errors import ReportError
from cnnlib.storage import files, layout
from cnnlib.views.page import publish
from cnnlib.views.page.publish import draw_page, publish_pages
from cnnlib.views.page.report_data import load_report_data
from tests.page_html import Page, draw
from tests.pages import Reports, write_small_reports
from tests.reports_of_rows import write_rows


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


def test_history_has_the_report_that_another_job_wrote_while_it_was_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, labels = str(tmp_path), np.arange(30) % 3
    first = write_rows(tmp_path, labels, labels, epoch=1)
    second: list[str] = []
    real = publish._draw_history

    def draw(*arguments: Any) -> str:
        if not second:
            second.append(write_rows(tmp_path, labels, labels, epoch=2))
            publish_pages(uri, second, changed=second)
        return real(*arguments)

    monkeypatch.setattr(publish, "_draw_history", draw)
    publish_pages(uri, [first], changed=[first])
    history = Page(files.read_bytes(layout.history_page(uri)).decode())
    links = {each["href"] for each in history.all("a") if each["href"].endswith(".html")}
    assert links == {f"{first}.html", f"{second[0]}.html"}


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
    assert "does not match its manifest" in err


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
