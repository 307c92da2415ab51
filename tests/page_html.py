"""Parses the pages, for tests of their tags and text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

from cnnlib.views.page.publish import draw_page
from tests.pages import Reports


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


def draw(reports: Reports, report_id: str | None = None) -> Page:
    return Page(draw_page(reports.uri, "/elsewhere/page.html", report_id))
