"""No value becomes markup, nothing else runs, and no page refers to anything outside itself."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from tests.page_html import draw
from tests.pages import Reports, write_small_reports

HOSTILE = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(2)>", "</script><!--")


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
    assert draw(hostile, hostile.ids[1]).mistakes["names"] == {
        str(index): name for index, name in enumerate(HOSTILE)
    }


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
