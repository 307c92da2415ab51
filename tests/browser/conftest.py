"""Provides a real Chromium, and pages of real reports.

`infra/setup/chromium.sh` installs Debian's Chromium. Without one these tests are skipped with a reason; in CI
(`CI=true`) they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from cnnlib.views.page.publish import publish_pages
from tests.browser.chromium import DESKTOP, OpenPage, Visit, find_chromium, launch
from tests.pages import Reports, write_real_reports, write_small_reports

HOSTILE = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(2)>", "</script><!--")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Starts one Chromium for all tests."""
    if find_chromium() is None:
        reason = "no Chromium on this machine: sh infra/setup/chromium.sh, as root, installs Debian's"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def reports(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Writes seven reports on Fashion-MNIST and their pages. Needs `browser`, to compute nothing without one."""
    written = write_real_reports(tmp_path_factory.mktemp("real"))
    assert len(publish_pages(written.uri, written.ids, written.ids)) == len(written.ids) + 1
    return written


@pytest.fixture(scope="session")
def hostile(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Writes reports whose class names are markup, and their pages."""
    written = write_small_reports(tmp_path_factory.mktemp("hostile"), class_names=HOSTILE)
    publish_pages(written.uri, written.ids, written.ids)
    return written


@pytest.fixture(scope="session")
def many(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Writes one report of 35 classes of coloured images, and its page."""
    names = [f"class number {index}" for index in range(35)]
    folder = tmp_path_factory.mktemp("many")
    written = write_small_reports(folder, class_names=names, image_shape=(96, 80, 3), rows=400, reports=1)
    publish_pages(written.uri, written.ids, written.ids)
    return written


@pytest.fixture(scope="session")
def thousand(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Writes one report of 1,000 classes of photographs, and its page."""
    names = [f"class number {index}" for index in range(1000)]
    folder = tmp_path_factory.mktemp("thousand")
    written = write_small_reports(folder, class_names=names, image_shape=(96, 160, 3), rows=2100, reports=1)
    publish_pages(written.uri, written.ids, written.ids)
    return written


@pytest.fixture
def visit(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages from the disk; at the end of the test none may have faults or requests over a network."""
    contexts, visits = [], []

    def open_page(file: Path, size: tuple[int, int] = DESKTOP, scheme: Any = "light") -> Visit:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        opened = Visit(context.new_page())
        visits.append(opened)
        opened.page.goto(file.as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()
    for opened in visits:
        assert opened.faults == []
        assert opened.requests
        own = ("file://", "data:image/png;", "data:image/webp;")
        assert [url for url in opened.requests if not url.startswith(own)] == []
