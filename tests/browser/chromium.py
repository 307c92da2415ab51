"""Starts Debian's Chromium, and records errors and requests of a page in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Dialog, Page, Playwright

from cnnlib.storage import layout
from tests.pages import Reports

SHOTS = Path(__file__).parents[2] / "out" / "browser"
DESKTOP, PHONE = (1280, 900), (390, 844)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGS = [
    "--no-sandbox",  # root in a container has no sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
]

OpenPage = Callable[..., "Visit"]


class Visit:
    """An open page, with its faults (messages, errors, dialogs) and requests."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", self._dismiss)
        page.on("request", lambda request: self.requests.append(request.url))

    def _dismiss(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def find_chromium() -> str | None:
    """Returns the path of this machine's Chromium; None without one."""
    return next((path for path in map(shutil.which, _NAMES) if path), None)


def launch(playwright: Playwright) -> Browser:
    """Starts Chromium without a window."""
    return playwright.chromium.launch(executable_path=find_chromium(), args=_ARGS)


def page_file(reports: Reports, kind: str) -> Path:
    """Returns the page of the newest report, or the history page."""
    newest = layout.report_page(reports.uri, reports.ids[-1])
    return Path(layout.history_page(reports.uri) if kind == "history" else newest)
